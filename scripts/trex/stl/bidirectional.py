"""Both directions of a service: start -f bidirectional.py -m 100kpps -t --reply_mac 02:00:00:00:00:10

Direct routing has two ways. The clients' port (direction 0) sends small requests to the VIPs, through the director. The
real servers' port (direction 1) sends large replies from the VIPs to the clients, past the director, as real servers
do: both ports must be on one switch. With --both_ways requests it sends requests too, for a director that takes them
from both sides (two arms, no switch).
"""

import dr
from trex.stl.api import Dot1Q, Ether, IP, IPv6, UDP


class BothDirections:
    """Direction 0 is the clients' port, direction 1 the real servers'."""

    def get_streams(self, direction, tunables, **kwargs):
        parser = dr.tunables_parser(__doc__.splitlines()[0])
        parser.add_argument(
            "--both_ways", choices=["replies", "requests"], default="replies", help="what the second port sends"
        )
        parser.add_argument("--reply_size", type=int, default=1518, help="size of replies, with checksum")
        parser.add_argument(
            "--reply_mac",
            help="MAC address that replies go to: the clients' port's, or the gateway's (default: of the port's configuration)",
        )
        options = dr.parse(parser, tunables)
        port_id = kwargs.get("port_id", 0)
        if direction == 0:
            return dr.requests(options, port_id)
        if options.both_ways == "requests":
            # Clients of their own: flows of one side are none of the other's.
            options.clients += 0x8000
            return dr.requests(options, port_id)
        packet = self.reply(options)
        return [dr.stream(options, packet, dr.spread(options, packet, swap=True), "replies", 1, 1, port_id)]

    @staticmethod
    def reply(options):
        ethernet = Ether() if options.reply_mac is None else Ether(dst=options.reply_mac)
        if options.vlan is not None:
            ethernet /= Dot1Q(vlan=options.vlan)
        network, checksum = (IP, {"chksum": 0}) if options.version == 4 else (IPv6, {})
        packet = ethernet / network(src=str(options.vip[0]), dst=str(options.clients))
        packet /= UDP(sport=options.port, dport=dr.FIRST_PORT, **checksum)
        return packet / (b"\x55" * max(0, options.reply_size - dr.FCS - len(packet)))


def register():
    return BothDirections()
