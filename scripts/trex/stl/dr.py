"""What the profiles beside this file have in common: frames from clients to the VIPs of a director, and their tunables.

Frame sizes are TRex's: from the destination MAC address to the end of the checksum, so 64 is the smallest frame of
Ethernet and 1518 the largest without a VLAN tag. Packets are built four bytes shorter; the NIC adds the checksum.
"""

import argparse
import ipaddress

from trex.stl.api import (
    CTRexVmInsFixHwCs,
    Dot1Q,
    Ether,
    IP,
    IPv6,
    STLFlowLatencyStats,
    STLFlowStats,
    STLPktBuilder,
    STLScVmRaw,
    STLStream,
    STLTXCont,
    STLVmFixChecksumHw,
    STLVmFixIpv4,
    STLVmFlowVar,
    STLVmTupleGen,
    STLVmWrFlowVar,
    TCP,
    UDP,
)

FCS = 4
# Addresses for measurements, which nobody has: RFC 2544, appendix C.2.2, and RFC 5180, section 8.
CLIENTS_IPV4 = "198.18.0.1"
CLIENTS_IPV6 = "2001:2::1"
LAST_CLIENT_IPV4 = "198.19.255.254"
# Source ports of flows; those below are for latency streams, so that each is a flow that no other stream has.
FIRST_PORT, LAST_PORT = 1025, 65535
LATENCY_PORT = 900
# TRex writes its sequence number and time into the last bytes of a latency stream's frame.
LATENCY_PAYLOAD = 16
# Packet group ids: each port has a range of its own; those of latency streams are the latter half of it.
IDS_OF_A_PORT, LATENCY_IDS = 20, 10


def quantity(text):
    """A count as people write it: 1000, 64k, 1.5M."""
    factor = {"k": 10**3, "K": 10**3, "m": 10**6, "M": 10**6}.get(text[-1:], 1)
    value = float(text[:-1] if factor > 1 else text) * factor
    if value < 0 or value != int(value):
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number")
    return int(value)


def addresses(text):
    """One address, a list of them (A,B,C) or a range (A-B), all of one IP version."""
    try:
        if "-" in text:
            first, last = (ipaddress.ip_address(end) for end in text.split("-"))
            if first.version != last.version or first > last:
                raise ValueError(f"{text} is no range of addresses")
            return [first + i for i in range(int(last) - int(first) + 1)]
        found = [ipaddress.ip_address(part) for part in text.split(",")]
        if len({address.version for address in found}) > 1:
            raise ValueError("IPv4 and IPv6 addresses cannot be in one list: start the profile once for each")
        return found
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def tunables_parser(description, port=53, flows="1k", size=64):
    """The tunables that all profiles have; a profile adds its own."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument(
        "--vip",
        type=addresses,
        default="192.168.88.15",
        help="VIP, list (A,B) or range (A-B); its version makes IPv4 or IPv6",
    )
    parser.add_argument("--port", type=int, default=port, help="port of the virtual services")
    parser.add_argument(
        "--clients", type=ipaddress.ip_address, help=f"first client address (default: {CLIENTS_IPV4} or {CLIENTS_IPV6})"
    )
    parser.add_argument("--flows", type=quantity, default=flows, help="number of flows: 1k ... 10M")
    parser.add_argument(
        "--size", type=int, default=size, help="frame size with checksum, 64 ... 1518; raised to what the headers need"
    )
    parser.add_argument("--vlan", type=int, help="VLAN tag of all frames")
    parser.add_argument(
        "--dst_mac", help="the director's MAC address (default: what the port is configured with, or has resolved)"
    )
    parser.add_argument(
        "--flow_stats",
        type=int,
        default=0,
        help="1: count each stream by itself, also where it is received (NIC support or --software)",
    )
    parser.add_argument(
        "--latency_pps", type=quantity, default=1000, help="frames a second of all latency streams together; 0 for none"
    )
    parser.add_argument("--latency_streams", type=int, default=4, help="number of latency streams, each one flow")
    return parser


def parse(parser, tunables):
    """The tunables with what follows from them."""
    options = parser.parse_args(tunables)
    version = options.vip[0].version
    if options.clients is None:
        options.clients = ipaddress.ip_address(CLIENTS_IPV4 if version == 4 else CLIENTS_IPV6)
    if options.clients.version != version:
        parser.error("--clients and --vip must be of one IP version")
    if options.flows < 1:
        parser.error("--flows must be at least 1")
    if version == 6 and len({int(vip) >> 32 for vip in options.vip}) > 1:
        parser.error("IPv6 VIPs may differ in their last 32 bits alone, which is what TRex can vary")
    if not 60 <= options.size <= 1518:
        parser.error("--size must be 64 ... 1518")
    options.version = version
    return options


def frame(options, size, source_port=FIRST_PORT, room=0, tcp=None):
    """A frame from the first client to the first VIP, of this size with the checksum that the NIC adds."""
    ethernet = Ether() if options.dst_mac is None else Ether(dst=options.dst_mac)
    if options.vlan is not None:
        ethernet /= Dot1Q(vlan=options.vlan)
    network = IP if options.version == 4 else IPv6
    ports = {"sport": source_port, "dport": options.port}
    if tcp is not None:
        transport = TCP(**ports, **tcp)
    elif options.version == 4:
        # No checksum, which IPv4 allows: the ports change from frame to frame.
        transport = UDP(**ports, chksum=0)
    else:
        transport = UDP(**ports)
    packet = ethernet / network(src=str(options.clients), dst=str(options.vip[0])) / transport
    return packet / (b"\x55" * max(room, size - FCS - len(packet)))


def client_range(options, flows):
    """How many client addresses and source ports make so many flows: (addresses, ports)."""
    ports = LAST_PORT - FIRST_PORT + 1
    clients = min(flows, max(256, -(-flows // ports)))
    last = ipaddress.ip_address(LAST_CLIENT_IPV4)
    if options.version == 4 and options.clients <= last < options.clients + clients - 1:
        raise ValueError(f"{flows} flows need {clients} client addresses, which {options.clients} ... {last} are not")
    return clients, -(-flows // clients)


def whole_rounds(options):
    """The flows, rounded up so that each VIP gets as many."""
    return -(-options.flows // len(options.vip)) * len(options.vip)


def low_32_bits(address):
    return int(address) & 0xFFFFFFFF


def spread(options, packet, swap=False):
    """The field engine's instructions that make of one frame all flows: client address and port vary, then the VIPs.

    With `swap` the clients are the destinations, as in replies.
    """
    layer = "IP" if options.version == 4 else "IPv6"
    transport = "TCP" if TCP in packet else "UDP"
    low = 0 if options.version == 4 else 12
    client, vip, port = ("dst", "src", "dport") if swap else ("src", "dst", "sport")
    flows = whole_rounds(options)
    clients, ports = client_range(options, flows)
    first = low_32_bits(options.clients)
    engine = [
        STLVmTupleGen("client", first, first + clients - 1, FIRST_PORT, FIRST_PORT + ports - 1, limit_flows=flows),
        STLVmWrFlowVar("client.ip", f"{layer}.{client}", offset_fixup=low),
        STLVmWrFlowVar("client.port", f"{transport}.{port}"),
    ]
    if len(options.vip) > 1:
        engine += [vip_variable(options), STLVmWrFlowVar("vip", f"{layer}.{vip}", offset_fixup=low)]
    return engine + checksums(packet)


def vip_variable(options):
    values = [low_32_bits(vip) for vip in options.vip]
    if values == list(range(values[0], values[0] + len(values))):
        return STLVmFlowVar("vip", min_value=values[0], max_value=values[-1], size=4, op="inc")
    return STLVmFlowVar("vip", min_value=None, max_value=None, value_list=values, size=4, op="inc")


def checksums(packet):
    """Instructions that make the checksums right again, by the NIC where there is more than IPv4's own."""
    layer = "IP" if IP in packet else "IPv6"
    if TCP in packet:
        return [STLVmFixChecksumHw(layer, "TCP", CTRexVmInsFixHwCs.L4_TYPE_TCP)]
    if layer == "IPv6":
        return [STLVmFixChecksumHw(layer, "UDP", CTRexVmInsFixHwCs.L4_TYPE_UDP)]
    return [STLVmFixIpv4("IP")]


def stream(options, packet, engine, name, share, stats_id, port_id):
    """A stream that sends until it is stopped; the rate is its share of what the start of the traffic says (-m)."""
    return STLStream(
        name=name,
        packet=STLPktBuilder(pkt=packet, vm=STLScVmRaw(engine)),
        mode=STLTXCont(pps=share),
        flow_stats=STLFlowStats(pg_id=stats_id + port_id * IDS_OF_A_PORT) if options.flow_stats else None,
    )


def latency_streams(options, port_id, sizes=None, tcp=None):
    """Streams of one flow each, which TRex numbers and stamps: latency, jitter, loss and order of frames.

    Their rate is their own: what the start of the traffic says (-m) is for the other streams.
    """
    sizes = sizes or [options.size] * options.latency_streams
    if options.latency_pps == 0:
        return []
    return [
        STLStream(
            name=f"latency{number}",
            packet=STLPktBuilder(pkt=frame(options, size, LATENCY_PORT + number, LATENCY_PAYLOAD, tcp)),
            mode=STLTXCont(pps=options.latency_pps / len(sizes)),
            flow_stats=STLFlowLatencyStats(pg_id=LATENCY_IDS + port_id * IDS_OF_A_PORT + number),
            # Not all at the same instant.
            isg=1e6 / options.latency_pps * number,
        )
        for number, size in enumerate(sizes)
    ]


def requests(options, port_id, sizes=None):
    """The flows to the VIPs in frames of one size or of several (size, share), and the latency streams."""
    found = []
    for number, (size, share) in enumerate(sizes or [(options.size, 1)]):
        packet = frame(options, size)
        found.append(stream(options, packet, spread(options, packet), f"size{size}", share, 1 + number, port_id))
    return found + latency_streams(options, port_id)
