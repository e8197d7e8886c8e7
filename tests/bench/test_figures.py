"""Medians, intervals and groups, against values worked out by hand or by simulation."""

import random
import statistics
import unittest

import bench_path  # noqa: F401
from benchkit import figures


class Summary(unittest.TestCase):
    def test_of_nothing_is_nothing(self):
        self.assertIsNone(figures.summary([]))
        self.assertIsNone(figures.summary([None, None]))

    def test_has_the_middle_and_the_ends_and_passes_over_runs_that_failed(self):
        found = figures.summary([30, None, 10, 20, 40])
        self.assertEqual((found["runs"], found["median"], found["min"], found["max"]), (4, 25, 10, 40))
        self.assertEqual(found["spread"], 30 / 25)

    def test_of_zeros_has_no_spread(self):
        self.assertIsNone(figures.summary([0, 0])["spread"])


class TwoGroups(unittest.TestCase):
    def test_are_told_from_one(self):
        for values, two in (
            ([100, 101, 160, 161], True),
            ([700, 710, 720, 1200, 1210, 1220], True),
            ([1200, 700, 1210, 710, 1220, 720], True),
            # Even steps, one that lies apart, and what nobody would call different.
            ([1, 2, 3, 4, 5, 6], False),
            ([100, 101, 102, 500], False),
            ([20, 100, 101, 102], False),
            ([1000, 1001, 1010, 1011], False),
            ([100, 100, 100, 100], False),
            # Too few to tell.
            ([100, 160, 161], False),
            ([100], False),
        ):
            self.assertEqual(figures.two_groups(values), two, values)


class MedianInterval(unittest.TestCase):
    def test_is_that_of_the_tables_of_order_statistics(self):
        for count, low, high, confidence in (
            (5, 1, 5, 0.9375),
            (6, 1, 6, 0.96875),
            (8, 1, 8, 0.9921875),
            (9, 2, 8, 0.9609375),
            (15, 4, 12, 0.96484375),
            (20, 6, 15, 0.9586),
        ):
            found = figures.median_interval(range(1, count + 1))
            self.assertEqual(found[:2], (low, high), count)
            self.assertAlmostEqual(found[2], confidence, 4)

    def test_of_one_value_claims_nothing(self):
        self.assertEqual(figures.median_interval([7]), (7, 7, 0.0))

    def test_holds_the_true_median_as_often_as_it_says(self):
        chance = random.Random(6)
        held = 0
        for _ in range(4000):
            # Skewed, so that a method that supposes a normal distribution would fail.
            low, high, confidence = figures.median_interval([chance.expovariate(1) for _ in range(9)])
            held += low <= 0.6931 <= high
        self.assertAlmostEqual(held / 4000, confidence, 2)


class Ratio(unittest.TestCase):
    def test_is_of_pairs_not_of_medians(self):
        # The machine was twice as fast in the last rounds; each round says 1.1 all the same.
        references = [100, 101, 99, 200, 202]
        found = figures.ratio([value * 1.1 for value in references], references)
        for key in ("median", "low", "high"):
            self.assertAlmostEqual(found[key], 1.1)
        self.assertEqual((found["pairs"], found["confidence"]), (5, 0.9375))

    def test_passes_over_pairs_of_which_a_run_failed(self):
        found = figures.ratio([10, None, 30, 50], [10, 10, None, 0])
        self.assertEqual((found["pairs"], found["median"]), (1, 1))
        self.assertIsNone(figures.ratio([None], [1]))
        self.assertIsNone(figures.ratio([1], []))

    def test_of_a_reference_to_itself_is_one(self):
        values = [3, 1, 4, 1, 5, 9]
        found = figures.ratio(values, values)
        self.assertEqual((found["median"], found["low"], found["high"]), (1, 1, 1))
        self.assertEqual(statistics.median(values), 3.5)


if __name__ == "__main__":
    unittest.main()
