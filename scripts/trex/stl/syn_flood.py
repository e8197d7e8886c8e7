"""TCP SYNs from random addresses and ports, each a new flow: start -f syn_flood.py -m 1mpps -t --port 80"""

import dr
from trex.stl.api import STLVmFlowVar, STLVmWrFlowVar

# What the first SYN of most systems has; it makes the frame's 60 bytes without padding.
SYN = {"flags": "S", "window": 64240, "options": [("MSS", 1460)]}
ESTABLISHED = {"flags": "A", "window": 502, "seq": 1, "ack": 1}


class SynFlood:
    """The latency streams are segments of established connections to the same service: what they lose and how long they
    take is the flood's harm to others."""

    def get_streams(self, direction, tunables, **kwargs):
        parser = dr.tunables_parser(__doc__, port=80)
        parser.add_argument(
            "--sources", type=dr.quantity, default="64k", help="number of addresses that the SYNs come from"
        )
        options = dr.parse(parser, tunables)
        if direction:
            return []
        port_id = kwargs.get("port_id", 0)
        packet = dr.frame(options, options.size, tcp=SYN)
        flood = dr.stream(options, packet, self.engine(options, packet), "syn", 1, 1, port_id)
        return [flood, *dr.latency_streams(options, port_id, tcp=ESTABLISHED)]

    @staticmethod
    def engine(options, packet):
        layer, low = ("IP", 0) if options.version == 4 else ("IPv6", 12)
        first = dr.low_32_bits(options.clients)
        engine = [
            STLVmFlowVar("source", min_value=first, max_value=first + options.sources - 1, size=4, op="random"),
            STLVmFlowVar("port", min_value=dr.FIRST_PORT, max_value=dr.LAST_PORT, size=2, op="random"),
            STLVmFlowVar("sequence", min_value=0, max_value=2**32 - 1, size=4, op="random"),
            STLVmWrFlowVar("source", f"{layer}.src", offset_fixup=low),
            STLVmWrFlowVar("port", "TCP.sport"),
            STLVmWrFlowVar("sequence", "TCP.seq"),
        ]
        if len(options.vip) > 1:
            engine += [dr.vip_variable(options), STLVmWrFlowVar("vip", f"{layer}.dst", offset_fixup=low)]
        return engine + dr.checksums(packet)


def register():
    return SynFlood()
