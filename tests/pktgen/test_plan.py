"""scripts/pktgen without pktgen: what it would write, tried by a model of what pktgen makes of it, and the program with a
directory in the place of /proc/net/pktgen."""

import contextlib
import io
import ipaddress
import itertools
import json
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "scripts/pktgen"))

import command_line
import kernel
import pktgen
from plan import PlanError, Traffic, plan

MAC = "02:00:00:00:00:02"


def traffic(vips="192.168.88.15", cores=(0,), **more):
    settings = {
        "interface": "eth1",
        "dst_mac": MAC,
        "vips": command_line.addresses(vips),
        "port": 53,
        "cores": cores,
        "queues": tuple((core, core) for core in cores),
        "rate_pps": None,
        "packets": None,
        "size": 60,
        "flows": 1000,
    }
    return Traffic(**{**settings, **more})


def values(device):
    """The settings of a device by their names; flags as a set."""
    found = {"flags": set()}
    for setting in device.settings:
        name, value = setting.split(" ", 1)
        if name == "flag":
            found["flags"].add(value)
        else:
            assert name not in found, f"{name} twice"
            found[name] = value
    return found


def flows_of(device, count):
    """As the kernel's mod_cur_headers does it: each counter goes one up, and begins anew behind its end. The end of
    ports is exclusive, unless it is the beginning; that of addresses is not."""
    settings = values(device)
    if "dst6" in settings:
        sources, vips = itertools.repeat(settings["src6"]), itertools.repeat(settings["dst6"])
    else:
        sources, vips = (
            itertools.cycle(
                range(
                    *(int(ipaddress.ip_address(settings[f"{side}_{end}"])) + (end == "max") for end in ("min", "max"))
                )
            )
            for side in ("src", "dst")
        )
    first, last = int(settings["udp_src_min"]), int(settings["udp_src_max"])
    ports = itertools.cycle(range(first, max(last, first + 1)))
    return list(itertools.islice(zip(sources, ports, vips), count))


class Plans(unittest.TestCase):
    def check_flows(self, planned):
        """All flows of all devices, each once in a round."""
        seen = set()
        for device in planned.devices:
            round_of_device = flows_of(device, planned.flows + 1)
            distinct = set(round_of_device)
            self.assertEqual(set(round_of_device[: len(distinct)]), distinct, "a flow twice in a round")
            self.assertFalse(distinct & seen, "a flow of two devices")
            seen |= distinct
        self.assertEqual(len(seen), planned.flows)

    def test_flows_are_as_many_as_it_says(self):
        for vips in (
            "192.168.88.15",
            "192.168.88.15-192.168.88.20",
            "192.168.88.15,192.168.88.77",
            "fd00::1",
            "fd00::1-fd00::3",
        ):
            for flows in (1, 2, 10, 100, 1000, 4096, 9973, 50_000):
                for cores in ((0,), (0, 1), (1, 2, 5)):
                    with self.subTest(vips=vips, flows=flows, cores=cores):
                        planned = plan(traffic(vips, cores, flows=flows, size=78))
                        self.check_flows(planned)
                        least = len(cores) * len(command_line.addresses(vips))
                        self.assertLess(abs(planned.flows - flows), max(3 * least, flows * 0.02))

    def test_ten_million_flows(self):
        for vips in ("192.168.88.15", "192.168.88.15-192.168.88.30", "fd00::1"):
            for cores in ((0,), (0, 1, 2, 3)):
                planned = plan(traffic(vips, cores, flows=10**7, size=78))
                self.assertLess(abs(planned.flows - 10**7), 10**5)
                for device in planned.devices:
                    settings = values(device)
                    self.assertLessEqual(int(settings["udp_src_max"]), 65535)
                    for name in ("src_min", "src_max"):
                        if name in settings:
                            self.assertIn(ipaddress.ip_address(settings[name]), ipaddress.ip_network("198.18.0.0/15"))

    def test_many_flows_come_from_many_addresses(self):
        (device,) = plan(traffic(flows=1_000_000)).devices
        self.assertGreater(len({source for source, _, _ in flows_of(device, 1000)}), 200)

    def test_the_rate_is_that_of_all_devices_together(self):
        for vips, cores, burst, rate in (
            ("192.168.88.15", (0,), 1, 1e6),
            ("192.168.88.15,192.168.88.77", (0, 1), 1, 1e5),
            ("fd00::1", (0, 1), 4, 2e6),
        ):
            devices = plan(traffic(vips, cores, flows=64, burst=burst, rate_pps=rate, size=78)).devices
            made = sum(burst * 1e9 / int(values(device)["delay"]) for device in devices)
            self.assertAlmostEqual(made, rate, delta=rate * 0.001)

    def test_without_a_rate_devices_of_a_core_take_turns(self):
        (alone,) = plan(traffic()).devices
        self.assertEqual(values(alone)["delay"], "0")
        two = plan(traffic("192.168.88.15,192.168.88.77")).devices
        self.assertEqual([values(device)["delay"] for device in two], ["100", "100"])
        each = plan(traffic(cores=(0, 1))).devices
        self.assertEqual([values(device)["delay"] for device in each], ["0", "0"])

    def test_packets_are_divided_without_loss(self):
        for packets in (1, 2, 3, 1000, 1001):
            devices = plan(traffic("192.168.88.15,192.168.88.77", (0, 1), packets=packets)).devices
            self.assertEqual(sum(int(values(device)["count"]) for device in devices), packets)
            self.assertNotIn("0", [values(device)["count"] for device in devices], "0 would be without end")
        self.assertEqual(values(plan(traffic()).devices[0])["count"], "0")

    def test_sizes(self):
        self.assertEqual(values(plan(traffic(size=1514)).devices[0])["pkt_size"], "1514")
        mixed = plan(traffic(size="imix"))
        self.assertEqual(values(mixed.devices[0])["imix_weights"], "60,7 590,4 1514,1")
        self.assertAlmostEqual(mixed.mean_size, (60 * 7 + 590 * 4 + 1514) / 12)
        self.assertEqual(values(plan(traffic("fd00::1", size="imix")).devices[0])["imix_weights"], "78,7 590,4 1514,1")
        for vips, size, more in (
            ("192.168.88.15", 59, {}),
            ("192.168.88.15", 1515, {}),
            ("fd00::1", 77, {}),
            ("fd00::1", 81, {"vlan": 4}),
        ):
            with self.subTest(vips=vips, size=size), self.assertRaises(PlanError):
                plan(traffic(vips, size=size, **more))

    def test_flags(self):
        self.assertEqual(values(plan(traffic()).devices[0])["flags"], {"!SHARED"})
        self.assertEqual(values(plan(traffic(burst=2)).devices[0])["flags"], set(), "bursts are shared packets")
        self.assertEqual(values(plan(traffic("fd00::1", size=78)).devices[0])["flags"], {"!SHARED", "IPV6", "UDPCSUM"})
        self.assertEqual(values(plan(traffic(udp_checksum=True)).devices[0])["flags"], {"!SHARED", "UDPCSUM"})

    def test_what_cannot_be_is_refused(self):
        for wrong in ({"flows": 0}, {"burst": 0}, {"packets": 0}, {"clients": ipaddress.ip_address("fd00::1")}):
            with self.subTest(wrong), self.assertRaises(PlanError):
                plan(traffic(**wrong))
        with self.assertRaisesRegex(PlanError, "devices of pktgen's"):
            plan(traffic("fd00::1-fd00::200", flows=10**6, size=78))


class Files(unittest.TestCase):
    """/proc/net/pktgen as a directory: what is written last to a file is in it."""

    DEVICE = """Params: count 3000  min_pkt_size: 60  max_pkt_size: 60
     frags: 0  delay: 333333  clone_skb: 0  ifname: eth1@0.0
Current:
     pkts-sofar: 2998  errors: 2
     started: 100000us  stopped: 1100000us idle: 5us
     seq_num: 2999  cur_dst_mac_offset: 0  cur_src_mac_offset: 0
     cur_queue_map: 0
     flows: 0
{imix}Result: OK: 1000000(c999995+d5) usec, 2998 (60byte,0frags)
  2998pps 1Mb/sec (1439040bps) errors: 2
"""

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = pathlib.Path(directory.name)
        for name in ("pgctrl", "kpktgend_0"):
            (self.root / name).write_text("")

    def test_a_device_is_understood(self):
        found = kernel.parse(self.DEVICE.format(imix=""))
        self.assertEqual(
            (found["sent"], found["errors"], found["started_us"], found["stopped_us"], found["sizes"]),
            (2998, 2, 100000, 1100000, None),
        )
        self.assertIn("2998 (60byte,0frags)", found["result"])
        mixed = kernel.parse(self.DEVICE.format(imix="     imix_size_counts: 60,7 590,4 1514,1 \n"))
        self.assertEqual(mixed["sizes"], {60: 7, 590: 4, 1514: 1})
        with self.assertRaises(kernel.PktgenError):
            kernel.parse("Params:")

    def test_only_one_at_a_time(self):
        first = kernel.Pktgen(self.root)
        with self.assertRaisesRegex(kernel.PktgenError, "in use"):
            kernel.Pktgen(self.root)
        first.close()
        kernel.Pktgen(self.root).close()

    def test_a_core_without_a_thread(self):
        generator = kernel.Pktgen(self.root)
        self.addCleanup(generator.close)
        with self.assertRaisesRegex(kernel.PktgenError, "no thread for core 3"):
            generator.set_up(plan(traffic(cores=(3,))).devices)

    def test_without_pktgen(self):
        with self.assertRaisesRegex(kernel.NoPktgen, "this kernel has no pktgen.*pointsman gen"):
            kernel.Pktgen(self.root / "nothing")


class Program(unittest.TestCase):
    def run_it(self, *more, open_pktgen=None):
        self.printed = io.StringIO()
        arguments = ["--interface", "lo", "--dst-mac", MAC, "--vip", "192.168.88.15", *more]
        with contextlib.redirect_stdout(self.printed), contextlib.redirect_stderr(self.printed):
            return pktgen.main(arguments, *([open_pktgen] if open_pktgen else []))

    def test_a_dry_run_prints_what_would_be_written(self):
        self.assertEqual(self.run_it("--dry-run", "--flows", "6"), 0)
        lines = self.printed.getvalue().splitlines()
        self.assertIn('echo "add_device lo@0.0" > /proc/net/pktgen/kpktgend_0', lines)
        self.assertIn('echo "dst_min 192.168.88.15" > /proc/net/pktgen/lo@0.0', lines)
        self.assertEqual(lines[-1], 'echo "start" > /proc/net/pktgen/pgctrl')

    def test_a_kernel_without_pktgen_has_a_status_of_its_own(self):
        def none():
            return kernel.Pktgen("/nowhere")

        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory) / "result"
            self.assertEqual(self.run_it("--output", str(path), open_pktgen=none), 3)
            self.assertIn("pointsman gen", self.printed.getvalue())
            result = json.loads(path.read_text())
            self.assertEqual((result["complete"], result["runs"]), (False, []))

    def test_rates(self):
        for text, expected in (
            ("100k", ("pps", 1e5)),
            ("5M", ("pps", 5e6)),
            ("2Gbps", ("bps", 2e9)),
            ("1.5Mpps", ("pps", 1.5e6)),
        ):
            self.assertEqual(command_line.rate(text), expected)
        self.run_it("--dry-run", "--rate", "480Mbps", "--size", "600")
        self.assertIn('"delay 10000"', self.printed.getvalue(), "100,000 frames of 600 bytes a second")

    def test_wrong_command_lines(self):
        for more in (
            ["--dst-mac", "02"],
            ["--vip", "1.2.3"],
            ["--vip", "1.2.3.4,fd00::1"],
            ["--vip", "1.2.3.4-1.2.3.1"],
            ["--vip", "1.2.3.4,1.2.3.4"],
            ["--rate", "0"],
            ["--rate", "fast"],
            ["--size", "60,60"],
            ["--size", "x"],
            ["--flows", "0"],
            ["--duration", "0"],
            ["--cores", "3-1"],
            ["--burst", "0"],
            ["--interface", "nothing0"],
            ["--output", "/nowhere/x"],
            ["--queues", "0", "--all-queues"],
            ["--vlan", "4095"],
        ):
            with self.subTest(more), self.assertRaises(SystemExit) as ended:
                self.run_it(*more)
            self.assertEqual(ended.exception.code, 2)
        self.assertEqual(self.run_it("--size", "59", "--dry-run"), 2)


if __name__ == "__main__":
    unittest.main()
