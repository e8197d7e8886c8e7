"""Reads a frame strictly, by nothing but the standards: whatever contradicts itself is an AssertionError."""

import ipaddress
import struct
from collections import namedtuple

from field_engine import TCP, UDP, internet_checksum, pseudo_header

Dissected = namedtuple(
    "Dissected", "destination vlan protocol client client_port server server_port flags payload flow"
)


def dissect(frame):
    destination, vlan, offset = frame[:6].hex(":"), None, 14
    (ethertype,) = struct.unpack_from("!H", frame, 12)
    if ethertype == 0x8100:
        tag, ethertype = struct.unpack_from("!HH", frame, 14)
        vlan, offset = tag & 0xFFF, 18
    protocol, source, target, transport, end = {0x0800: ipv4, 0x86DD: ipv6}[ethertype](frame, offset)
    assert end == len(frame) or len(frame) == 60, (
        f"{len(frame) - end} bytes behind the packet of a frame that needs none"
    )
    assert protocol in (UDP, TCP), protocol
    source_port, target_port = struct.unpack_from("!HH", frame, transport)
    flags = 0
    if protocol == UDP:
        length, checksum = struct.unpack_from("!HH", frame, transport + 4)
        assert length == end - transport, "UDP's length"
        header = 8
        assert checksum or frame[offset] >> 4 == 4, "UDP over IPv6 without checksum"
    else:
        header, flags, checksum = frame[transport + 12] >> 4 << 2, frame[transport + 13], 1
        assert 20 <= header <= end - transport, "TCP's header length"
    if checksum:
        whole = bytes(pseudo_header(frame, offset, transport, protocol)) + frame[transport:end]
        assert internet_checksum(whole) == 0, "checksum of UDP or TCP"
    flow = (protocol, source, source_port, target, target_port)
    return Dissected(
        destination, vlan, protocol, source, source_port, target, target_port, flags, end - transport - header, flow
    )


def ipv4(frame, offset):
    header = (frame[offset] & 15) * 4
    assert frame[offset] == 0x45, "version, or options that nobody asked for"
    assert internet_checksum(frame[offset : offset + header]) == 0, "checksum of IPv4's header"
    assert frame[offset + 8] > 1, "TTL"
    (length,) = struct.unpack_from("!H", frame, offset + 2)
    source, target = (ipaddress.IPv4Address(frame[offset + at : offset + at + 4]) for at in (12, 16))
    return frame[offset + 9], source, target, offset + header, offset + length


def ipv6(frame, offset):
    assert frame[offset] >> 4 == 6, "version"
    assert frame[offset + 7] > 1, "hop limit"
    (length,) = struct.unpack_from("!H", frame, offset + 4)
    source, target = (ipaddress.IPv6Address(frame[offset + at : offset + at + 16]) for at in (8, 24))
    return frame[offset + 6], source, target, offset + 40, offset + 40 + length
