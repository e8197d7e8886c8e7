"""What is asked for, and what becomes of it."""

import contextlib
import io
import unittest

import bench_path  # noqa: F401
from benchkit import command_line, plan
from benchkit.contenders import ALL, named
from benchkit.contenders.pointsman import settings_of
from benchkit.shape import Shape, number


class CommandLine(unittest.TestCase):
    def refused(self, *arguments):
        said = io.StringIO()
        with contextlib.redirect_stderr(said), self.assertRaises(SystemExit) as ended:
            command_line.read(arguments)
        self.assertEqual(ended.exception.code, 2)
        return said.getvalue()

    def test_defaults_are_all_contenders_five_rounds_and_both_loops(self):
        options = command_line.read([])
        self.assertEqual([each.name for each in options.contenders], list(ALL))
        self.assertEqual((options.runs, options.seconds, options.loops), (5, 5, ("open", "closed")))

    def test_a_sweep_is_of_the_open_loop_and_bounded_in_time(self):
        options = command_line.read(["--sweep", "flows"])
        self.assertEqual((options.loops, options.at_most, options.points), (("open",), 900, plan.FLOWS))
        options = command_line.read(["--sweep", "poll", "--points", "poll=busy,batch=16;poll=adaptive"])
        self.assertEqual(options.points, ("poll=busy,batch=16", "poll=adaptive"))

    def test_settings_of_pointsman_may_have_commas_and_the_reference_is_first(self):
        found = command_line.names("bridge,pointsman:poll=busy,batch=16,xdp-tx,pointsman")
        self.assertEqual([each.name for each in found], ["pointsman", "bridge", "pointsman:poll=busy,batch=16", "xdp-tx"])

    def test_mistakes_are_named(self):
        self.assertIn("'brigde'", self.refused("--contenders", "brigde"))
        self.assertIn("'speed=9'", self.refused("--contenders", "pointsman:speed=9"))
        self.assertIn("--sweep", self.refused("--points", "1,2"))
        self.assertIn("open loop", self.refused("--sweep", "load", "--loop", "both"))
        self.assertIn("--runs", self.refused("--runs", "0"))
        self.assertIn("--flows", self.refused("--flows", "many"))


class Names(unittest.TestCase):
    def test_settings_are_written_as_toml(self):
        self.assertEqual(settings_of("pointsman"), {})
        self.assertEqual(settings_of("pointsman:poll=busy,batch=16"), {"poll": '"busy"', "batch": "16"})
        self.assertEqual(settings_of("pointsman:busy_poll=20"), {"busy_poll": "{ timeout_us = 20 }"})

    def test_numbers_have_endings(self):
        for text, value in (("7", 7), ("1k", 1000), ("1.5M", 1_500_000), ("4Mi", 4 << 20), ("1Ki", 1024)):
            self.assertEqual(number(text), value)

    def test_real_servers_have_addresses_of_their_own(self):
        servers = Shape(real_servers=10_000).servers()
        self.assertEqual(len({address for address, _ in servers}), 10_000)
        self.assertEqual(len({mac for _, mac in servers}), 10_000)
        self.assertEqual(servers[0], ("10.99.1.1", "02:00:00:00:51:01"))
        self.assertEqual(Shape(services=1000).service_range(), "udp 10.1.0.1-10.1.3.232:80")


class Plan(unittest.TestCase):
    def test_without_a_sweep_each_loop_has_those_that_know_it(self):
        points = plan.loops(command_line.read([]), tuple(ALL.values()), Shape())
        self.assertEqual([(point.loop, point.gentle) for point in points], [("open", True), ("open", False), ("closed", False)])
        taken = [{each.name for each in point.takers()} for point in points]
        self.assertIn("xdp-redirect", taken[0] & taken[1] - taken[2])
        self.assertIn("xdp-tx", taken[2] - taken[0])
        self.assertIn("bridge", taken[0] & taken[2])

    def test_every_sweep_has_a_point_for_each_value(self):
        for kind in set(plan.SWEEPS) - {"load", "batch", "poll"}:
            options = command_line.read(["--sweep", kind])
            points = plan.sweep(kind, options.points, options, (named("pointsman"), named("bridge")), Shape())
            self.assertEqual(len(points), len(plan.SWEEPS[kind]), kind)
            self.assertEqual(len(set(points)), len(points), kind)
            alone = kind in plan.OF_POINTSMAN_ALONE
            self.assertEqual({len(point.takers()) for point in points}, {1 if alone else 2}, kind)

    def test_batches_stand_beside_each_other_at_one_point(self):
        options = command_line.read(["--sweep", "batch", "--points", "1,64"])
        (point,) = plan.sweep("batch", options.points, options, (), Shape())
        self.assertEqual([each.name for each in point.takers()], ["pointsman", "pointsman:batch=1", "pointsman:batch=64"])

    def test_loads_are_parts_of_each_ones_own_maximum(self):
        contenders = (named("pointsman"), named("bridge"), named("ip-forward"))
        points = plan.load(("10", "100"), {"pointsman": 800_000.4, "bridge": 300_000}, contenders, Shape())
        self.assertEqual(points[0].rate, {"pointsman": "80000", "bridge": "30000"})
        self.assertEqual([each.name for each in points[1].takers()], ["pointsman", "bridge"])
        self.assertEqual(plan.load(("10",), {}, contenders, Shape()), [])


if __name__ == "__main__":
    unittest.main()
