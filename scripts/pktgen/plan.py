"""What pktgen is told: which of its devices send what, so that all of them together are the traffic asked for.

A thread of pktgen's (one for each core) has devices, all of one interface, and each device varies its packets by
counters: client address, source port and, of a contiguous IPv4 range, the VIP go one up with each packet. If their
numbers have no common factor, all combinations come, each once in a round: that many flows are there, exactly.
"""

import ipaddress
import math
from dataclasses import dataclass

# Addresses for measurements, which nobody has: RFC 2544, appendix C.2.2, and RFC 5180, section 8.
CLIENTS_IPV4 = ipaddress.ip_address("198.18.0.1")
CLIENTS_IPV6 = ipaddress.ip_address("2001:2::1")
FIRST_PORT = 1024
MOST_PORTS, MOST_CLIENTS = 64000, 16384
# NICs often spread UDP over their queues by addresses alone, so one client address would not do.
USUAL_CLIENTS = 256
# One flow in so many may be missing or too many, for the sake of a usual number of addresses.
NEAR_ENOUGH = 10_000
MOST_DEVICES = 1024
# Sizes from the destination MAC address to the last byte of the packet, without the checksum, as in the director's
# statistics. pktgen's own header of 16 bytes must have room.
SMALLEST = {4: 60, 6: 78}
LARGEST = 1514
VLAN_TAG = 4
# The simple IMIX: size and share.
IMIX = ((60, 7), (590, 4), (1514, 1))
# Of devices of one thread pktgen serves the one whose time has come first; without a delay always the same. This
# bounds nobody: a thread of two devices could send 20 million packets a second.
TURN_NS = 100


class PlanError(Exception):
    """What was asked for cannot be had from pktgen."""


@dataclass(frozen=True)
class Traffic:
    """What is asked for."""

    interface: str
    dst_mac: str
    vips: tuple
    port: int
    cores: tuple
    # For each core the first and the last transmit queue.
    queues: tuple
    # None is as fast as it goes.
    rate_pps: float | None
    # None until it is stopped.
    packets: int | None
    # A size, or "imix".
    size: object
    flows: int
    clients: object = None
    burst: int = 1
    vlan: int | None = None
    udp_checksum: bool = False

    @property
    def version(self):
        return self.vips[0].version


@dataclass(frozen=True)
class Device:
    """One device of pktgen's: the core whose thread has it, its name, and what is written to it."""

    core: int
    name: str
    settings: tuple


@dataclass(frozen=True)
class Plan:
    """All devices, and what they make together."""

    devices: tuple
    flows: int
    mean_size: float


def plan(traffic):
    """The devices for this traffic."""
    check(traffic)
    groups = groups_of_vips(traffic)
    shares = split(max(traffic.flows, len(traffic.cores) * len(groups)), len(traffic.cores) * len(groups))
    devices, flows = [], 0
    first_client = traffic.clients or (CLIENTS_IPV4 if traffic.version == 4 else CLIENTS_IPV6)
    for number, core in enumerate(traffic.cores):
        clients_of_core = 0
        for group_number, group in enumerate(groups):
            share = shares[number * len(groups) + group_number]
            clients, ports, sources = sources_of(traffic.version, share, len(group))
            for source in range(sources):
                settings = (
                    *destination(group),
                    *origin(traffic.version, first_client + source, clients),
                    *udp_ports(traffic.port, ports),
                    f"queue_map_min {traffic.queues[number][0]}",
                    f"queue_map_max {traffic.queues[number][1]}",
                )
                devices.append((core, settings))
            flows += clients * ports * sources * len(group)
            clients_of_core = max(clients_of_core, clients * sources)
        # Flows of one core are none of another's.
        first_client += clients_of_core
    if len(devices) > MOST_DEVICES:
        raise PlanError(
            f"that makes {len(devices)} devices of pktgen's, and more than {MOST_DEVICES} are unwieldy: "
            "use fewer flows or cores, or VIPs that are one IPv4 range"
        )
    return Plan(tuple(with_the_rest(traffic, devices)), flows, mean_size(traffic))


def check(traffic):
    smallest = SMALLEST[traffic.version] + (VLAN_TAG if traffic.vlan is not None and traffic.version == 6 else 0)
    if traffic.size != "imix" and not smallest <= traffic.size <= LARGEST:
        raise PlanError(
            f"a frame of {traffic.size} bytes is not between {smallest} and {LARGEST} "
            f"(IPv{traffic.version}, with pktgen's header, without checksum)"
        )
    if traffic.clients is not None and traffic.clients.version != traffic.version:
        raise PlanError("client addresses and VIPs must be of one IP version")
    if traffic.flows < 1 or traffic.burst < 1 or (traffic.packets is not None and traffic.packets < 1):
        raise PlanError("flows, burst and packets must be at least 1")


def groups_of_vips(traffic):
    """VIPs that one device can have: a contiguous IPv4 range, or one alone."""
    vips = traffic.vips
    if traffic.version == 4 and all(int(vip) == int(vips[0]) + i for i, vip in enumerate(vips)):
        return [vips]
    return [(vip,) for vip in vips]


def split(total, parts):
    return [total // parts + (1 if part < total % parts else 0) for part in range(parts)]


def sources_of(version, flows, vips):
    """Client addresses and ports of each device, and the number of devices, that make as many flows or nearly so."""
    if version == 6:
        # An IPv6 device has one source address: several of them, if their number divides the flows.
        fewest = -(-flows // MOST_PORTS)
        sources = next((count for count in range(max(fewest, 8), fewest, -1) if flows % count == 0), fewest)
        return 1, round(flows / sources), sources
    return *coprime(max(1, round(flows / vips)), vips), 1


def coprime(pairs, vips):
    """(addresses, ports) whose product is this or near to it, and which have no factor with each other or the VIPs."""
    fewest = -(-pairs // MOST_PORTS)
    most = min(pairs, MOST_CLIENTS)
    best = (1, 1)
    usual = [clients for clients in range(USUAL_CLIENTS, 4 * USUAL_CLIENTS) if fewest <= clients <= most]
    others = sorted(set(range(fewest, most + 1)) - set(usual), key=lambda clients: abs(clients - USUAL_CLIENTS))
    for clients in usual + others:
        if abs(pairs - best[0] * best[1]) <= pairs // NEAR_ENOUGH:
            break
        for ports in (pairs // clients, pairs // clients + 1):
            if 1 <= ports <= MOST_PORTS and math.gcd(clients, ports) == math.gcd(clients * ports, vips) == 1:
                best = min(best, (clients, ports), key=lambda found: abs(pairs - found[0] * found[1]))
    return best


def destination(group):
    if group[0].version == 6:
        return ("flag IPV6", f"dst6 {group[0]}")
    return (f"dst_min {group[0]}", f"dst_max {group[-1]}")


def origin(version, first, clients):
    if version == 6:
        return (f"src6 {first}",)
    return (f"src_min {first}", f"src_max {first + clients - 1}")


def udp_ports(port, ports):
    # The last source port is not used, unless it is the only one.
    last = FIRST_PORT + (0 if ports == 1 else ports)
    return (f"udp_dst_min {port}", f"udp_dst_max {port}", f"udp_src_min {FIRST_PORT}", f"udp_src_max {last}")


def with_the_rest(traffic, devices):
    """The devices with names, and with what does not tell flows apart: sizes, rate, count, burst, destination MAC."""
    counts = [0] * len(devices) if traffic.packets is None else split(traffic.packets, len(devices))
    for number, ((core, settings), count) in enumerate(zip(devices, counts)):
        if traffic.packets is not None and count == 0:
            continue
        common = [f"count {count}", f"dst_mac {traffic.dst_mac}", "clone_skb 0", f"burst {traffic.burst}"]
        common += sizes(traffic)
        common.append(f"delay {delay_ns(traffic, devices, core)}")
        if traffic.vlan is not None:
            common.append(f"vlan_id {traffic.vlan}")
        # The kernel drops UDP over IPv6 without checksum, as RFC 8200 wants it.
        if traffic.udp_checksum or traffic.version == 6:
            common.append("flag UDPCSUM")
        if traffic.burst == 1:
            # A packet that pktgen shares with a driver in generic XDP's way makes the kernel panic.
            common.append("flag !SHARED")
        yield Device(core, f"{traffic.interface}@{core}.{number}", (*common, *settings))


def sizes(traffic):
    if traffic.size != "imix":
        return [f"pkt_size {traffic.size}"]
    return ["imix_weights " + " ".join(f"{size},{share}" for size, share in imix(traffic))]


def imix(traffic):
    smallest = SMALLEST[traffic.version] + (VLAN_TAG if traffic.vlan is not None and traffic.version == 6 else 0)
    return [(max(size, smallest), share) for size, share in IMIX]


def mean_size(traffic):
    if traffic.size != "imix":
        return float(traffic.size)
    mix = imix(traffic)
    return sum(size * share for size, share in mix) / sum(share for _, share in mix)


def delay_ns(traffic, devices, core):
    """Between two bursts of a device. All devices have the same share of the rate."""
    if traffic.rate_pps is not None:
        return max(1, round(traffic.burst * len(devices) * 1e9 / traffic.rate_pps))
    return TURN_NS if sum(1 for of, _ in devices if of == core) > 1 else 0
