"""The command line of pktgen.py."""

import argparse
import ipaddress
import os
import pathlib
import re
import shlex
import sys

from plan import IMIX

EXAMPLES = """
examples:
  pktgen.py --interface eth1 --dst-mac 02:00:00:00:00:02 --vip 192.168.88.15
  pktgen.py --interface eth1 --dst-mac 02:00:00:00:00:02 --vip 192.168.88.15-192.168.88.30 --cores 0-3 --flows 1M \\
      --rate 5M --duration 60 --director "ssh director pointsman stats --json" --output run.json
  pktgen.py --interface eth1 --dst-mac 02:00:00:00:00:02 --vip fd00:88::15 --size 78,512,1514,imix --dry-run

exit status: 0 sent, 1 it could not be, 2 wrong command line, 3 this kernel has no pktgen
"""


def parse(description, arguments):
    """The options; wrong ones end the program."""
    parser = argparse.ArgumentParser(
        description=description, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--interface", required=True, help="interface to send by; it must be up")
    add("--dst-mac", required=True, type=mac, metavar="MAC", help="the director's MAC address, or its router's")
    add("--vip", required=True, type=addresses, help="VIP, list (A,B) or range (A-B); of one IP version")
    add("--port", type=number(1, 65535), default=53, help="UDP port of the services (default: %(default)s)")
    add("--cores", type=cores, default="0", help="cores that send, as 0,2 or 0-3 (default: %(default)s)")
    add("--queues", type=cores, help="transmit queue of each core, in their order (default: 0, 1, ..., over again)")
    add("--all-queues", action="store_true", help="each core sends by all transmit queues in turn")
    add(
        "--rate",
        type=rate,
        metavar="RATE",
        help="of all cores together: 100k, 5M (packets a second), 2Gbps (bits of frames "
        "without preamble and checksum); without it as fast as it goes",
    )
    add(
        "--size",
        type=sizes,
        default="60",
        metavar="SIZE,...",
        help="frame size without checksum (IPv4 60 ... 1514, IPv6 78 ...) or imix "
        f"({', '.join(f'{share} x {size}' for size, share in IMIX)}); several are run one after the other (default: %(default)s)",
    )
    add("--flows", type=quantity, default="1k", help="number of flows, as 1k or 10M (default: %(default)s)")
    add(
        "--clients",
        type=ipaddress.ip_address,
        metavar="IP",
        help="first client address (default: 198.18.0.1 or 2001:2::1)",
    )
    add("--duration", type=seconds, default=10.0, metavar="S", help="seconds (default: %(default)s)")
    add("--packets", type=quantity, metavar="N", help="stop after so many packets, instead of a time")
    add(
        "--burst",
        type=number(1, 1024),
        default=1,
        help="hand the driver so many copies of a packet at once; needs a driver of hardware (default: %(default)s)",
    )
    add("--vlan", type=number(0, 4094), metavar="ID", help="VLAN tag of all frames")
    add("--udp-checksum", action="store_true", help="UDP checksums also over IPv4, where they may be left out")
    add(
        "--director",
        metavar="COMMAND",
        help='prints the director\'s statistics, as "ssh director pointsman stats --json"',
    )
    add(
        "--interval",
        type=seconds,
        default=1.0,
        metavar="S",
        help="seconds between readings while it runs (default: %(default)s)",
    )
    add("--output", type=pathlib.Path, metavar="FILE", help="save the results as JSON")
    add(
        "--dry-run",
        action="store_true",
        help="print what would be written to /proc/net/pktgen; needs neither root nor pktgen",
    )
    options = parser.parse_args(arguments)
    if options.queues and options.all_queues:
        parser.error("--queues and --all-queues exclude each other")
    if options.output and not options.output.parent.is_dir():
        parser.error(f"there is no directory {options.output.parent}")
    if not options.dry_run and not os.path.isdir(f"/sys/class/net/{options.interface}"):
        parser.error(f"there is no interface {options.interface}")
    options.command = shlex.join([sys.argv[0], *(sys.argv[1:] if arguments is None else arguments)])
    return options


def mac(text):
    if not re.fullmatch(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", text):
        raise argparse.ArgumentTypeError(f"'{text}' is no MAC address")
    return text.lower()


def addresses(text):
    try:
        found = []
        for part in text.split(","):
            first, _, last = part.partition("-")
            first = ipaddress.ip_address(first)
            last = ipaddress.ip_address(last) if last else first
            if first.version != last.version or first > last:
                raise ValueError(f"'{part}' is no range of addresses")
            found += [first + i for i in range(int(last) - int(first) + 1)]
        if len({address.version for address in found}) > 1:
            raise ValueError("IPv4 and IPv6 VIPs cannot be in one run")
        if len(set(found)) < len(found):
            raise ValueError(f"'{text}' has an address twice")
        return tuple(found)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def number(least, most):
    def convert(text):
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not between {least} and {most}")
        return value

    return convert


def cores(text):
    found = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    if not found:
        raise argparse.ArgumentTypeError(f"'{text}' names none")
    return tuple(found)


def quantity(text):
    factor = {"k": 10**3, "K": 10**3, "M": 10**6}.get(text[-1:], 1)
    value = float(text[:-1] if factor > 1 else text) * factor
    if value != int(value) or value < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number above 0")
    return int(value)


def rate(text):
    """(unit, value): packets or bits a second."""
    match = re.fullmatch(r"([0-9.]+)([kKMG]?)(pps|bps)?", text)
    if not match or not 0 < float(match[1]):
        raise argparse.ArgumentTypeError(f"'{text}' is no rate; 100k, 5M or 2Gbps are")
    value = float(match[1]) * {"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}[match[2]]
    return match[3] or "pps", value


def sizes(text):
    found = [part if part == "imix" else int(part) for part in text.split(",")]
    if len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"'{text}' has a size twice")
    return found


def seconds(text):
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value
