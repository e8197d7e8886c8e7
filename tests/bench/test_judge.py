"""What is a fault, in what order runs are taken, and what is printed."""

import copy
import math
import types
import unittest

import bench_path  # noqa: F401
from benchkit import document, judge, plan, table
from benchkit.contenders import named
from benchkit.rounds import Rounds
from benchkit.shape import Shape

SENT = {"packets": 100, "bytes": 6400}
GOOD = {
    "contender": "pointsman",
    "generator": {"sent": SENT, "sent_pps": 1000.0},
    "sink": {
        "received": SENT, "received_pps": 1000.0, "sound": True,
        "duplicates": 0, "corrupted": 0, "wrong_mac": 0, "affinity_breaks": 0,
        "latency": {"p50": 3000, "p99": 4000, "p99_9": 5000},
        "real_servers": [{"mac": "02:00:00:00:51:01", "received": {"packets": 100}}],
    },
    "contender_document": {
        "totals": {"received": SENT, "tx": SENT, "latency": {"p50": 1000, "p99_9": 2000}},
        "virtual_services": [{"real_servers": [{"next_hop": "02:00:00:00:51:01", "tx": {"packets": 100}}]}],
    },
}  # fmt: skip
POINTSMAN, BRIDGE = named("pointsman"), named("bridge")
GENTLE = plan.Point("gentle", "open", (POINTSMAN, BRIDGE), Shape(), "5k", gentle=True)
HARD = plan.Point("hard", "open", (POINTSMAN, BRIDGE), Shape())
CLOSED = plan.Point("closed", "closed", (POINTSMAN,), Shape())


def changed(*path, to):
    run = copy.deepcopy(GOOD)
    place = run
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return run


class Faults(unittest.TestCase):
    def test_a_good_run_has_none_with_and_without_a_document_of_the_contender(self):
        for run in (GOOD, changed("contender_document", to=None)):
            self.assertEqual(judge.faults_of(GENTLE, [run]), [])

    def test_what_is_wrong_where_nothing_may_be_lost(self):
        less = {"packets": 99, "bytes": 6336}
        for run, said in (
            (changed("sink", "sound", to=False), "finds faults"),
            (changed("generator", "sent", to={"packets": 101, "bytes": 6464}), "received"),
            (changed("contender_document", "totals", "received", to=less), "director did not receive"),
            (changed("contender_document", "totals", "tx", to=less), "did not receive what the director sent"),
            (changed("contender_document", "virtual_services", to=[]), "real servers"),
            (changed("contender_document", "totals", "latency", "p50", to=3001), "slower"),
            ({"contender": "pointsman", "error": "it fell over"}, "it fell over"),
        ):
            faults = judge.faults_of(GENTLE, [GOOD, run])
            self.assertTrue(faults and all("run 2: " in fault for fault in faults), faults)
            self.assertIn(said, " ".join(faults))

    def test_at_full_load_losses_are_none_but_damage_is(self):
        lossy = changed("sink", "sound", to=False)
        lossy["sink"]["received"] = {"packets": 50, "bytes": 3200}
        self.assertEqual(judge.faults_of(HARD, [lossy]), [])
        self.assertEqual(len(judge.faults_of(HARD, [changed("sink", "corrupted", to=1)])), 1)
        nothing = changed("sink", "received", to={"packets": 0, "bytes": 0})
        self.assertIn("nothing came through", judge.faults_of(HARD, [nothing])[0])

    def test_a_closed_loop_must_live_to_its_end(self):
        self.assertEqual(judge.faults_of(CLOSED, [{"contender": "pointsman", "alive_at_end": True}]), [])
        self.assertEqual(len(judge.faults_of(CLOSED, [{"contender": "pointsman", "alive_at_end": False}])), 1)


class Document(unittest.TestCase):
    def test_of_the_buckets_only_those_of_the_whole_latency_stay(self):
        buckets = [{"from_ns": 0, "to_ns": 8, "count": 100}]
        run = changed("contender_document", "totals", "latency", "buckets", to=buckets)
        run["contender_document"]["workers"] = [{"latency": {"p50": 1000, "buckets": buckets}}]
        slimmed = document.slim(run)["contender_document"]
        self.assertEqual(slimmed["totals"]["latency"]["buckets"], buckets)
        self.assertEqual(slimmed["workers"], [{"latency": {"p50": 1000}}])
        self.assertIn("buckets", run["contender_document"]["workers"][0]["latency"])
        for other in (changed("contender_document", to=None), {"contender": "bridge", "error": "no"}):
            self.assertEqual(document.slim(other), other)


class InTurn(unittest.TestCase):
    def take(self, until):
        order = []
        rounds = Rounds(types.SimpleNamespace(runs=3), [GENTLE], until)
        rounds.run = lambda point, contender: order.append(contender.name) or {**GOOD, "contender": contender.name}
        return rounds.take(lambda _: None), order

    def test_each_round_has_all_and_another_one_first(self):
        rounds, order = self.take(math.inf)
        self.assertEqual(order, ["pointsman", "bridge", "bridge", "pointsman", "pointsman", "bridge"])
        self.assertEqual([len(runs) for runs in rounds.runs.values()], [3, 3])

    def test_what_there_was_no_time_for_is_named(self):
        rounds, order = self.take(-math.inf)
        self.assertEqual((order, len(rounds.not_measured)), ([], 6))
        self.assertIn("gentle: pointsman", rounds.not_measured[0])
        # And the tables still come.
        self.assertIn("0 runs", table.of_point(document.point_document(0, GENTLE, rounds))[0])

    def test_ratios_and_failed_runs_are_in_the_document_and_the_table(self):
        rounds, _ = self.take(math.inf)
        rounds.runs[0, "bridge"][1] = {"contender": "bridge", "error": "no"}
        found = document.point_document(0, GENTLE, rounds)
        bridge = found["results"]["bridge"]
        self.assertEqual((bridge["figures"]["forwarded_pps"]["runs"], bridge["ratio_to_reference"]["pairs"]), (2, 2))
        self.assertEqual(bridge["figures"]["arrived_percent"]["median"], 100)
        rows = table.of_point(found)
        self.assertIn("1.00 [1.00-1.00, 50 %]", rows[3])
        self.assertEqual(len({len(row) for row in rows[1:]}), 1, "columns are aligned")


if __name__ == "__main__":
    unittest.main()
