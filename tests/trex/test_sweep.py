"""The runner of scripts/trex, whole: with a simulated device, with TRex's library and a simulated server, and with a
command that prints what a director would."""

import contextlib
import copy
import io
import json
import pathlib
import sys
import tempfile
import types
import unittest

ROOT = pathlib.Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "scripts/trex"), str(ROOT / "scripts")]

import director_stats
import sweep
import trex_device
from search import Trial

DIRECTOR = {
    "schema_version": 1,
    "version": "0",
    "hostname": "director",
    "kernel": "6.18",
    "started_at": {"unix_ns": 1, "monotonic_ns": 1},
    "taken_at": {"unix_ns": 5, "monotonic_ns": 2_000_000_000},
    "interfaces": [
        {
            "name": "eth0",
            "mode": "native",
            "xdp": {"redirected": 10, "passed": 1},
            "queues": [
                {"queue": 0, "zero_copy": True, "ring_statistics": {"rx_dropped": 1, "rx_ring_full": 0}},
                {"queue": 1, "zero_copy": True, "ring_statistics": {"rx_dropped": 2, "rx_ring_full": 0}},
            ],
        }
    ],
    "workers": [
        {
            "worker": 0,
            "core": 2,
            "received": {"packets": 10, "bytes": 640},
            "tx": {"packets": 9, "bytes": 576},
            "cycles": {"busy": 100, "idle": 100},
        }
    ],
    "virtual_services": [
        {
            "service": "udp 192.168.88.15:53",
            "real_servers": [{"address": "192.168.88.100", "tx": {"packets": 9, "bytes": 576}}],
        }
    ],
    "totals": {
        "received": {"packets": 10, "bytes": 640},
        "tx": {"packets": 9, "bytes": 576},
        "drops": {"tx_ring_full": 1, "no_service": 0},
        "flows": {"new": 4},
        "latency": {"buckets": [{"from_ns": 100, "to_ns": 199, "count": 9}]},
    },
    "identity": {"verdicts": {"holds": True}},
}


def later():
    """The same director half a second on."""
    document = copy.deepcopy(DIRECTOR)
    document["taken_at"]["monotonic_ns"] += 500_000_000
    document["interfaces"][0]["xdp"]["redirected"] += 110
    document["interfaces"][0]["queues"][1]["ring_statistics"]["rx_dropped"] += 7
    document["workers"][0].update(
        received={"packets": 113, "bytes": 0}, tx={"packets": 109, "bytes": 0}, cycles={"busy": 400, "idle": 200}
    )
    document["virtual_services"][0]["real_servers"][0]["tx"] = {"packets": 109, "bytes": 0}
    document["totals"].update(
        received={"packets": 113, "bytes": 7232},
        tx={"packets": 109, "bytes": 6976},
        drops={"tx_ring_full": 4, "no_service": 0},
    )
    document["totals"]["latency"] = {
        "buckets": [{"from_ns": 100, "to_ns": 199, "count": 59}, {"from_ns": 200, "to_ns": 399, "count": 50}]
    }
    return document


class DirectorStatistics(unittest.TestCase):
    def test_difference(self):
        between = director_stats.difference(DIRECTOR, later())
        self.assertEqual(between["seconds"], 0.5)
        self.assertEqual((between["received"]["packets"], between["tx"]["packets"]), (103, 100))
        self.assertEqual(between["drops"], {"tx_ring_full": 3, "no_service": 0})
        self.assertEqual(
            (between["interfaces"][0]["rx_dropped"], between["interfaces"][0]["xdp"]["redirected"]), (7, 110)
        )
        self.assertEqual(between["workers"][0]["load"], 0.75)
        self.assertEqual(
            between["real_servers"], [{"service": "udp 192.168.88.15:53", "address": "192.168.88.100", "tx": 100}]
        )
        self.assertEqual(
            {name: between["latency"][name] for name in ("count", "p50", "p90", "max")},
            {"count": 100, "p50": 199, "p90": 399, "max": 399},
        )
        self.assertEqual(director_stats.losses(between), {"tx_ring_full": 3, "eth0: rx_dropped": 7})

    def test_nothing_between(self):
        between = director_stats.difference(DIRECTOR, DIRECTOR)
        self.assertEqual(
            (between["latency"]["count"], between["latency"]["p50"], between["workers"][0]["load"]), (0, None, None)
        )
        self.assertEqual(director_stats.losses(between), {})

    def test_a_new_director_is_noticed(self):
        other = later()
        other["started_at"] = {"unix_ns": 2, "monotonic_ns": 2}
        with self.assertRaisesRegex(director_stats.DirectorError, "started anew"):
            director_stats.difference(DIRECTOR, other)

    def test_what_is_wrong_with_the_command_is_said(self):
        for command, message in [
            ("/nowhere/pointsman stats", "cannot be run"),
            ("'", "cannot be run"),
            ("sh -c 'echo no director >&2; exit 1'", "status 1: no director"),
            ("echo director up 3 s", "is --json in it"),
            ("""echo '{"schema_version": 2}'""", "schema version 2"),
        ]:
            with self.subTest(command), self.assertRaisesRegex(director_stats.DirectorError, message):
                director_stats.Director(command).read()


class Simulated:
    """In the place of TrexDevice: takes 3 Mpps of 64 bytes, 1 Mpps of what is larger."""

    failing_after = None

    def __init__(self, server, ports, profile):
        self.asked, self.closed = [], False
        Simulated.last = self

    def describe(self):
        return {"server": "simulated"}

    def load(self, tunables):
        self.capacity = 3e6 if tunables["size"] == "64" else 1e6
        return 10e6

    def measure(self, rate_pps, seconds):
        self.asked.append((rate_pps, seconds))
        if self.failing_after is not None and len(self.asked) > self.failing_after:
            raise trex_device.DeviceError("TRex is gone")
        sent = round(rate_pps * seconds)
        return Trial(rate_pps, seconds, sent, min(sent, round(self.capacity * seconds)), details={"latency": []})

    def close(self):
        self.closed = True


class Runner(unittest.TestCase):
    def run_it(self, *more, status=0, open_device=Simulated):
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory)
            # Each reading is the next of a director that counts: 100 frames more each time.
            printer = path / "stats"
            (path / "document").write_text(json.dumps(DIRECTOR))
            printer.write_text(
                f"import json\ndocument = json.load(open({str(path / 'document')!r}))\nprint(json.dumps(document))\n"
                "document['totals']['received']['packets'] += 100\ndocument['totals']['tx']['packets'] += 100\n"
                f"json.dump(document, open({str(path / 'document')!r}, 'w'))\n"
            )
            arguments = [
                "--profile",
                "stl/udp.py",
                "--output",
                str(path / "result"),
                "--director",
                f"{sys.executable} {printer}",
                *more,
            ]
            with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
                self.assertEqual(sweep.main(arguments, open_device), status)
            self.printed = out.getvalue() + err.getvalue()
            self.assertEqual([entry.name for entry in path.iterdir() if "new" in entry.name], [])
            return json.loads((path / "result").read_text())

    def test_one_file_has_it_all(self):
        result = self.run_it(
            "--sweep", "size=64,1518", "--loss", "0.01", "--loads", "10,50", "--tunables", "--vip 192.168.88.15"
        )
        self.assertTrue(result["complete"])
        self.assertEqual(
            [point["tunables"] for point in result["points"]],
            [{"vip": "192.168.88.15", "size": "64"}, {"vip": "192.168.88.15", "size": "1518"}],
        )
        for point, capacity in zip(result["points"], (3e6, 1e6)):
            with_loss, without = point["searches"]
            self.assertEqual((with_loss["acceptable_loss"], without["acceptable_loss"]), (0.01, 0))
            self.assertAlmostEqual(without["rate_pps"], capacity, delta=capacity * 0.011)
            self.assertLessEqual(without["rate_pps"], capacity)
            self.assertGreater(with_loss["rate_pps"], without["rate_pps"])
            self.assertEqual((without["confirmed_by"]["seconds"], without["confirmed_by"]["lost"]), (60, 0))
            self.assertEqual([load["percent"] for load in point["loads"]], [10, 50])
            self.assertAlmostEqual(point["trials"][point["loads"][1]["trial"]]["rate_pps"], without["rate_pps"] / 2)
            for trial in point["trials"]:
                self.assertEqual(
                    trial["director"]["received"]["packets"],
                    100,
                    "each trial has its own part of the director's counts",
                )
        self.assertIn("the director counted 100 in, 100 out", self.printed)
        self.assertTrue(Simulated.last.closed)

    def test_the_highest_rate_asked_for_bounds_all(self):
        self.run_it("--max", "2M", "--sweep", "size=64")
        self.assertEqual(max(rate for rate, _ in Simulated.last.asked), 2e6)
        self.assertEqual(Simulated.last.asked[0], (1e6, 5), "warming up")

    def test_what_was_measured_until_a_failure_is_kept(self):
        class Failing(Simulated):
            failing_after = 5

        result = self.run_it("--sweep", "size=64", status=1, open_device=Failing)
        self.assertEqual((result["complete"], result["error"]), (False, "TRex is gone"))
        self.assertEqual(len(result["points"][0]["trials"]), 4)
        self.assertTrue(Simulated.last.closed)

    def test_a_wrong_command_for_the_director_ends_it_at_once(self):
        Simulated.last = None
        result = self.run_it("--director", "false", status=1)
        self.assertIn("'false' ended with status 1", result["error"])
        self.assertIsNone(Simulated.last)

    def test_wrong_command_lines(self):
        for arguments in (
            [],
            ["--profile", "stl/nothing.py", "--output", "/tmp/x"],
            ["--profile", "stl/udp.py", "--output", "/nowhere/x"],
            *(
                ["--profile", "stl/udp.py", "--output", "/tmp/x", *more]
                for more in (
                    ["--ports", "0"],
                    ["--ports", "0,0"],
                    ["--sweep", "size"],
                    ["--loss", "0"],
                    ["--loss", "2"],
                    ["--max", "0"],
                    ["--max", "x"],
                    ["--loads", "0"],
                    ["--tunables", "vip 1"],
                    ["--tunables", "--vip"],
                )
            ),
        ):
            with (
                self.subTest(arguments),
                contextlib.redirect_stderr(io.StringIO()),
                self.assertRaises(SystemExit) as ended,
            ):
                sweep.main(arguments, Simulated)
            self.assertEqual(ended.exception.code, 2)


class Server:
    """In the place of TRex's STLClient: port 0's frames arrive at port 1, but for two in a hundred."""

    def __init__(self, server):
        self.done, self.streams = [], {}

    def __getattr__(self, name):
        return lambda *arguments, **named: self.done.append((name, arguments, named))

    def get_server_version(self):
        return {"version": "v3.04"}

    def get_port_info(self, ports):
        return [{"index": port, "speed": 10, "hw_mac": "02:00:00:00:00:10"} for port in ports]

    def is_connected(self):
        return True

    def remove_all_streams(self, ports):
        self.streams = {}

    def add_streams(self, streams, ports):
        self.streams[ports[0]] = streams

    def start(self, ports, mult, duration, force):
        self.sent = int(mult.removesuffix("pps")) * duration
        self.done.append(("start", ports, mult))

    def get_stats(self):
        arrived = self.sent * 98 // 100
        port = {"opackets": 0, "ipackets": 0, "oerrors": 0, "ierrors": 0}
        groups = [stream.get_pg_id() for stream in self.streams[0]]
        return {
            "global": {"queue_full": 0, "cpu_util": 12.5},
            0: {**port, "opackets": self.sent},
            1: {**port, "ipackets": arrived + 3},
            "flow_stats": {
                group: {"tx_pkts": {"total": self.sent // len(groups)}, "rx_pkts": {"total": arrived // len(groups)}}
                for group in groups
            },
            "latency": {
                "global": {},
                10: {
                    "latency": {
                        "average": 21.5,
                        "jitter": 2,
                        "total_min": "N/A",
                        "total_max": 90,
                        "histogram": {20: 90, 30: 10},
                    },
                    "err_cntrs": {"dropped": 2, "out_of_order": 0, "dup": 0, "seq_too_high": 1, "seq_too_low": 0},
                },
            },
        }


class OnTrex(unittest.TestCase):
    """The device as it is, with TRex's client library but for the connection to a server."""

    def open(self, tunables):
        api = trex_device.client_library()
        stand_in = types.SimpleNamespace(
            **{name: getattr(api, name) for name in ("STLProfile", "STLError")}, STLClient=Server
        )
        original, trex_device.client_library = trex_device.client_library, lambda: stand_in
        self.addCleanup(setattr, trex_device, "client_library", original)
        device = trex_device.TrexDevice("trex", [0, 1], str(ROOT / "scripts/trex/stl/udp.py"))
        return device, device.load(tunables)

    def test_line_rate(self):
        for size, expected in ((64, 14_880_952), (1518, 812_744)):
            self.assertAlmostEqual(self.open({"size": size})[1], expected, delta=1)

    def test_a_trial_counted_by_ports(self):
        device, _ = self.open({"vip": "192.168.88.15"})
        trial = device.measure(1e6, 10)
        self.assertEqual((trial.sent, trial.lost, trial.invalid), (10_000_000, 199_997, None))
        self.assertEqual(trial.details["counted_by"], "ports")
        self.assertIn(("start", [0], "1000000pps"), device.client.done)
        (stream,) = trial.details["latency"]
        self.assertEqual(
            (stream["average"], stream["total_min"], stream["dropped"], stream["histogram"]),
            (21.5, None, 2, {"20": 90, "30": 10}),
        )
        json.dumps(trial.details)

    def test_a_trial_counted_by_flow_statistics(self):
        device, _ = self.open({"flow_stats": 1})
        trial = device.measure(1e6, 10)
        self.assertEqual(
            (trial.sent, trial.lost, trial.details["counted_by"]), (10_000_000, 200_000, "flow statistics")
        )

    def test_a_generator_that_lags_makes_a_trial_invalid(self):
        device, _ = self.open({})
        device.client.start = lambda ports, mult, duration, force: setattr(device.client, "sent", 9_000_000)
        self.assertIn("TRex sent 9000000 of 10000000", device.measure(1e6, 10).invalid)

    def test_tunables_that_the_profile_lacks(self):
        with (
            contextlib.redirect_stderr(io.StringIO()),
            self.assertRaisesRegex(trex_device.DeviceError, "does not take --frobnicate 1"),
        ):
            self.open({"frobnicate": 1})


if __name__ == "__main__":
    unittest.main()
