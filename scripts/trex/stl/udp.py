"""UDP datagrams in frames of one size (64 bytes) from clients to VIPs: start -f udp.py -m 1mpps -t --vip 192.168.88.15"""

import dr


class UdpOfOneSize:
    """Direction 0 is the clients' port; the real servers' port sends nothing."""

    def get_streams(self, direction, tunables, **kwargs):
        options = dr.parse(dr.tunables_parser(__doc__), tunables)
        return [] if direction else dr.requests(options, kwargs.get("port_id", 0))


def register():
    return UdpOfOneSize()
