"""The profiles of scripts/trex: loaded as TRex does, compiled by its client library, run, checked, and replayed."""

import base64
import functools
import ipaddress
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest
from collections import Counter, defaultdict

from dissect import dissect
from field_engine import TCP, UDP, frames

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts/trex"))

from trex_device import client_library

STLProfile = client_library().STLProfile
from trex.astf.api import ASTFProfile

PROFILES = ROOT / "scripts/trex/stl"
POINTSMAN = os.environ["POINTSMAN"]
DIRECTOR = "02:00:00:00:00:02"
VIP4, OTHER4, VIP6 = "192.168.88.15", "192.168.88.77", "fd00:88::15"
CLIENTS4, CLIENTS6 = ipaddress.ip_network("198.18.0.0/15"), ipaddress.ip_network("2001:2::/48")

# name, tunables beyond the default ones, and the sizes of frames without checksum that follow.
ADDRESSING = [
    ("IPv4", {"vip": VIP4}, 4, None),
    ("IPv6", {"vip": VIP6}, 6, None),
    ("VLAN", {"vip": VIP4, "vlan": 88}, 4, 88),
    ("IPv6 and VLAN", {"vip": VIP6, "vlan": 88}, 6, 88),
    ("list of VIPs", {"vip": f"{VIP4},{OTHER4}"}, 4, None),
    ("range of VIPs", {"vip": "fd00:88::15-fd00:88::18"}, 6, None),
]
SMALLEST = {(4, None): 60, (6, None): 62, (4, 88): 60, (6, 88): 66}


def load(name, direction=0, port_id=None, **tunables):
    """The streams as JSON, as they would go to the server."""
    tunables = [part for key, value in tunables.items() for part in (f"--{key}", str(value))]
    profile = STLProfile.load(
        str(PROFILES / f"{name}.py"),
        direction=direction,
        port_id=direction if port_id is None else port_id,
        tunables=tunables,
    )
    return profile.to_json()


def is_latency(stream):
    return stream["flow_stats"].get("rule_type") == "latency"


def bulk(streams):
    return [stream for stream in streams if not is_latency(stream)]


def vips(tunables):
    text = tunables["vip"]
    if "-" in text:
        first, last = (ipaddress.ip_address(end) for end in text.split("-"))
        return {first + i for i in range(int(last) - int(first) + 1)}
    return {ipaddress.ip_address(vip) for vip in text.split(",")}


def for_each_addressing(**more):
    """A test that is run with each of ADDRESSING, and takes tunables, IP version and VLAN."""

    def decorate(test):
        @functools.wraps(test)
        def run(self):
            for title, tunables, version, vlan in ADDRESSING:
                with self.subTest(addressing=title):
                    test(self, {**tunables, **more}, version, vlan)

        return run

    return decorate


class Profiles(unittest.TestCase):
    def check(self, frame, tunables, version, vlan, port, protocol=UDP):
        found = dissect(frame)
        self.assertEqual(found.vlan, vlan)
        self.assertEqual((found.protocol, found.server_port), (protocol, port))
        self.assertIn(found.server, vips(tunables))
        self.assertIn(found.client, CLIENTS4 if version == 4 else CLIENTS6)
        self.assertGreaterEqual(found.client_port, 900)
        return found

    def check_flows(self, stream, flows, *expected):
        """A whole round and a half: each flow once before any comes again, as many for each VIP."""
        found = [self.check(frame, *expected).flow for frame in frames(stream, flows + flows // 2)]
        self.assertEqual(len(set(found[:flows])), flows)
        self.assertEqual(found[flows:], found[: flows // 2])
        of_vips = Counter(flow[3] for flow in found[:flows])
        self.assertEqual(set(of_vips.values()), {flows // len(vips(expected[0]))})

    def check_latency(self, streams, count, *expected):
        streams = list(filter(is_latency, streams))
        self.assertEqual(len(streams), count)
        ids = [stream["flow_stats"]["stream_id"] for stream in streams]
        self.assertEqual(len(set(ids)), count)
        for stream in streams:
            sent = [self.check(frame, *expected) for frame in frames(stream, 3)]
            self.assertEqual(
                len({one.flow for one in sent}), 1, "a latency stream is one flow, for its order to mean something"
            )
            self.assertGreaterEqual(sent[0].payload, 16, "TRex writes 16 bytes into the payload")
            self.assertLess(sent[0].client_port, 1025, "a flow that no other stream has")
        self.assertAlmostEqual(sum(stream["mode"]["rate"]["value"] for stream in streams), 1000)

    @for_each_addressing()
    def test_udp_of_one_size(self, tunables, version, vlan):
        expected = tunables, version, vlan, 53
        streams = load("udp", **tunables)
        (stream,) = bulk(streams)
        self.check_flows(stream, 1000, *expected)
        self.assertEqual({len(frame) for frame in frames(stream, 3)}, {SMALLEST[version, vlan]})
        self.check_latency(streams, 4, *expected)
        self.assertEqual(load("udp", direction=1, **tunables), [], "the real servers' port sends nothing")

    def test_sizes(self):
        for size in (64, 128, 256, 512, 1024, 1280, 1518):
            (stream,) = bulk(load("udp", vip=VIP4, size=size))
            self.assertEqual(len(next(frames(stream, 1))), size - 4)

    @for_each_addressing(flows=300)
    def test_imix(self, tunables, version, vlan):
        expected = tunables, version, vlan, 53
        streams = load("imix", **tunables)
        sizes = []
        for stream in bulk(streams):
            self.check_flows(stream, 300, *expected)
            sizes.append((len(next(frames(stream, 1))), stream["mode"]["rate"]["value"]))
        self.assertEqual(sizes, [(SMALLEST[version, vlan], 28), (590, 16), (1514, 4)])
        self.check_latency(streams, 4, *expected)

    def test_many_flows(self):
        (stream,) = bulk(load("many_flows", vip=VIP4, flows="100k"))
        self.check_flows(stream, 100_000, {"vip": VIP4}, 4, None, 53)
        # Of ten million the generator's bounds tell, which TRex documents: each flow once if they have room for all.
        for vip, network in ((VIP4, CLIENTS4), (VIP6, CLIENTS6)):
            for flows in ("1k", "1M", "4M", "10M", "12345678"):
                (stream,) = bulk(load("many_flows", vip=vip, flows=flows))
                clients = stream["vm"]["instructions"][0]
                count = int(flows.replace("k", "000").replace("M", "000000"))
                room = (clients["ip_max"] - clients["ip_min"] + 1) * (clients["port_max"] - clients["port_min"] + 1)
                self.assertEqual(clients["limit_flows"], count)
                self.assertGreaterEqual(room, count)
                self.assertLessEqual(clients["port_max"], 65535)
                last = (int(network.network_address) >> 32 << 32) + clients["ip_max"]
                self.assertIn(type(network.network_address)(last), network)

    @for_each_addressing()
    def test_syn_flood(self, tunables, version, vlan):
        expected = tunables, version, vlan, 80, TCP
        streams = load("syn_flood", **tunables)
        (flood,) = bulk(streams)
        found = [self.check(frame, *expected) for frame in frames(flood, 2000)]
        self.assertEqual({one.flags for one in found}, {0x02}, "SYN alone")
        # Of 64 k addresses with 64 k ports each hardly any comes twice.
        self.assertGreater(len({one.flow for one in found}), 1990)
        self.assertGreater(len({one.client for one in found}), 1900)
        self.assertEqual({one.server for one in found}, vips(tunables))
        self.check_latency(streams, 4, *expected)
        (flags,) = {dissect(frame).flags for stream in streams if is_latency(stream) for frame in frames(stream, 1)}
        self.assertEqual(flags, 0x10, "latency is that of established connections")

    @for_each_addressing(flows=400)
    def test_replies_go_past_the_director(self, tunables, version, vlan):
        requests, replies = (
            load("bidirectional", direction=direction, reply_mac="02:00:00:00:00:10", **tunables)
            for direction in (0, 1)
        )
        (request,), (reply,) = bulk(requests), replies
        self.check_flows(request, 400, tunables, version, vlan, 53)
        asked = {dissect(frame).flow for frame in frames(request, 400)}
        answered = [dissect(frame) for frame in frames(reply, 400)]
        self.assertEqual(
            {(one.protocol, one.server, one.server_port, one.client, one.client_port) for one in answered}, asked
        )
        self.assertEqual({one.destination for one in answered}, {"02:00:00:00:00:10"})
        self.assertEqual({one.vlan for one in answered}, {vlan})
        self.assertEqual({len(frame) for frame in frames(reply, 2)}, {1514})

    def test_requests_from_both_sides(self):
        sides = [
            load("bidirectional", direction=direction, vip=VIP4, flows=400, both_ways="requests")
            for direction in (0, 1)
        ]
        flows = [{dissect(frame).flow for stream in side for frame in frames(stream, 400)} for side in sides]
        self.assertFalse(flows[0] & flows[1], "a flow of both sides")
        ids = [stream["flow_stats"]["stream_id"] for side in sides for stream in side if is_latency(stream)]
        self.assertEqual(len(ids), len(set(ids)), "TRex wants packet group ids that differ between ports")

    @for_each_addressing()
    def test_latency_in_three_sizes(self, tunables, version, vlan):
        streams = load("latency", **tunables)
        self.check_latency(streams, 3, tunables, version, vlan, 53)
        sizes = [len(next(frames(stream, 1))) for stream in streams]
        # IPv6's header and TRex's 16 bytes need more than 64.
        self.assertEqual(sizes, [max(60, (18 if vlan else 14) + (20 if version == 4 else 40) + 8 + 16), 590, 1514])

    def test_flow_statistics(self):
        for port in (0, 1):
            streams = load("imix", direction=0, port_id=port, vip=VIP4, flow_stats=1)
            self.assertEqual(
                [stream["flow_stats"]["stream_id"] for stream in bulk(streams)],
                [1 + 20 * port, 2 + 20 * port, 3 + 20 * port],
            )

    def test_wrong_tunables_are_refused(self):
        for tunables in (
            {"flows": 0},
            {"size": 1519},
            {"vip": f"{VIP4},{VIP6}"},
            {"vip": "fd00::1,fd01::1"},
            {"vip": VIP4, "clients": "2001:2::1"},
        ):
            with self.subTest(tunables), open(os.devnull, "w") as nowhere:
                standard_error, sys.stderr = sys.stderr, nowhere
                try:
                    # TRex takes the parser's exit for a question for help, and loads nothing.
                    self.assertIsNone(STLProfile.load_py(str(PROFILES / "udp.py"), **tunables))
                finally:
                    sys.stderr = standard_error


class Http(unittest.TestCase):
    def load(self, **tunables):
        return ASTFProfile.load(str(ROOT / "scripts/trex/astf/http.py"), **tunables).to_json()

    def test_replies_do_not_follow_the_requests_mac_address(self):
        for side in ("c_glob_info", "s_glob_info"):
            self.assertEqual(self.load(vip=VIP4)[side]["ip"]["dont_use_inbound_mac"], 1)

    def test_addresses(self):
        clients, servers = self.load(vip=VIP4, vips=3)["ip_gen_dist_list"]
        self.assertEqual((clients["ip_start"], clients["ip_end"], clients["dir"]), ("198.18.0.1", "198.18.0.254", "c"))
        self.assertEqual((servers["ip_start"], servers["ip_end"], servers["dir"]), (VIP4, "192.168.88.17", "s"))
        self.assertEqual(servers["ip_offset"], "0.0.0.0", "all port pairs have the same VIPs")
        profile = self.load(vip=VIP6)
        self.assertEqual(profile["ip_gen_dist_list"][1]["ip_start"], "0.0.0.21")
        ipv6 = profile["c_glob_info"]["ipv6"]
        self.assertEqual(ipv6["enable"], 1)
        self.assertEqual(ipaddress.IPv6Address(bytes(ipv6["dst_msb"])) + 0x15, ipaddress.ip_address(VIP6))
        self.assertIn(ipaddress.IPv6Address(bytes(ipv6["src_msb"])) + 1, CLIENTS6)

    def test_conversation(self):
        profile = self.load(vip=VIP4, size=1000, requests=2, port=8080)
        request, answer = (base64.b64decode(text) for text in profile["buf_list"])
        self.assertTrue(
            request.startswith(b"GET / HTTP/1.1\r\nHost: 192.168.88.15\r\n") and request.endswith(b"\r\n\r\n")
        )
        head, body = answer.split(b"\r\n\r\n")
        self.assertIn(b"Content-Length: 1000", head)
        self.assertEqual(len(body), 1000)
        sides = [[tuple(command.values()) for command in program["commands"]] for program in profile["program_list"]]
        self.assertEqual(
            sides[0], [("tx", 0), ("rx", len(answer)), ("tx", 0), ("rx", 2 * len(answer))], "TRex counts all bytes"
        )
        self.assertEqual(sides[1], [("rx", len(request)), ("tx", 1), ("rx", 2 * len(request)), ("tx", 1)])
        template = profile["templates"][0]
        self.assertEqual(
            (template["client_template"]["port"], template["server_template"]["assoc"]), (8080, [{"port": 8080}])
        )


class Replay(unittest.TestCase):
    """All streams of all profiles by the director's own code: requests leave for a real server, replies are not its own."""

    CONFIGURATION = "[director]\nsecret = 'trex'\n[[interface]]\nname = 'eth0'\n" + "".join(
        f"[[virtual_service]]\nvip = '{vip}'\nport = {port}\nprotocol = '{protocol}'\nreal_server = [{servers}]\n"
        for vip, servers in [
            *((vip, "{ address = '192.168.88.100' }, { address = '192.168.88.200' }") for vip in (VIP4, OTHER4)),
            *(
                (f"fd00:88::{last}", "{ address = 'fd00:88::100' }, { address = 'fd00:88::200' }")
                for last in (15, 16, 17, 18)
            ),
        ]
        for port, protocol in ((53, "udp"), (80, "tcp"))
    )

    def replay(self, captured):
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory)
            (path / "director.toml").write_text(self.CONFIGURATION)
            with open(path / "in.pcap", "wb") as capture:
                capture.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
                for number, frame in enumerate(captured):
                    capture.write(
                        struct.pack("<IIII", number // 1000, number % 1000 * 1000, len(frame), len(frame)) + frame
                    )
            command = [
                POINTSMAN,
                "replay",
                "--config",
                path / "director.toml",
                "--in",
                path / "in.pcap",
                "--out",
                path / "out.pcap",
                "--mac",
                DIRECTOR,
                "--json",
            ]
            ran = subprocess.run(command, capture_output=True, text=True)
            self.assertEqual(ran.returncode, 0, ran.stderr)
            return [json.loads(line) for line in ran.stdout.splitlines()]

    def test_every_request_is_sent_on(self):
        for name in ("udp", "imix", "many_flows", "syn_flood", "bidirectional", "latency"):
            for title, tunables, _version, _vlan in ADDRESSING:
                with self.subTest(profile=name, addressing=title):
                    captured = [
                        frame for stream in load(name, dst_mac=DIRECTOR, **tunables) for frame in frames(stream, 300)
                    ]
                    decided = self.replay(captured)
                    self.assertEqual(len(decided), len(captured))
                    self.assertEqual(Counter(line["verdict"] for line in decided), {"tx": len(captured)})
                    servers = defaultdict(set)
                    for frame, line in zip(captured, decided):
                        servers[dissect(frame).flow].add(line["real_server"])
                    self.assertEqual({len(of_flow) for of_flow in servers.values()}, {1}, "a flow at two real servers")
                    if name != "latency":
                        self.assertEqual(len(set.union(*servers.values())), 2, "flows at one real server alone")

    def test_no_reply_is_for_the_director(self):
        (reply,) = load("bidirectional", direction=1, vip=VIP4, reply_mac=DIRECTOR)
        decided = self.replay(list(frames(reply, 300)))
        self.assertEqual(Counter(line["verdict"] for line in decided), {"pass": 300})


if __name__ == "__main__":
    unittest.main()
