"""The search for rates, on devices that are simulated."""

import pathlib
import random
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "scripts/trex"))

from search import Search, Trial


class Device:
    """Loses nothing up to its capacity, and whatever is above; or what `loss(rate, seconds)` says."""

    def __init__(self, capacity=None, loss=None, generator=float("inf")):
        self.loss = loss or (lambda rate, _seconds: max(0.0, 1 - capacity / rate))
        self.generator = generator
        self.asked = []

    def measure(self, rate_pps, seconds):
        self.asked.append((rate_pps, seconds))
        wanted = round(rate_pps * seconds)
        sent = round(min(rate_pps, self.generator) * seconds)
        received = sent - round(sent * self.loss(min(rate_pps, self.generator), seconds))
        return Trial(rate_pps, seconds, sent, received, None if sent >= wanted * 0.99 else "too slow")


def search(device, lowest=1e3, highest=10e6, resolution=0.01, trial=10, final=60):
    return Search(device.measure, lowest, highest, resolution, trial, final)


class HighestRate(unittest.TestCase):
    def test_it_is_found_within_the_resolution_for_any_capacity(self):
        generator = random.Random(2544)
        for _ in range(300):
            capacity, resolution = generator.uniform(1.1e3, 9.9e6), generator.choice([0.1, 0.01, 0.001])
            device = Device(capacity)
            found = search(device, resolution=resolution).highest_rate(0)
            # A loss of less than one frame in a trial is none.
            self.assertLessEqual(found.rate_pps, capacity * (1 + 1e-4))
            self.assertGreaterEqual(found.rate_pps, capacity * (1 - resolution) * 0.999)
            self.assertEqual((found.trial.rate_pps, found.trial.seconds, found.trial.lost), (found.rate_pps, 60, 0))
            self.assertEqual(found.limited_by, "device")
            self.assertEqual(device.asked[0], (10e6, 10), "RFC 2544 begins with the highest rate")

    def test_a_device_that_takes_all_needs_two_trials(self):
        device = Device(1e9)
        found = search(device).highest_rate(0)
        self.assertEqual((found.rate_pps, found.limited_by), (10e6, "highest rate"))
        self.assertEqual(device.asked, [(10e6, 10), (10e6, 60)])

    def test_a_device_that_takes_nothing_has_no_rate(self):
        device = Device(loss=lambda rate, seconds: 0.5)
        found = search(device).highest_rate(0)
        self.assertEqual((found.rate_pps, found.trial), (None, None))
        self.assertEqual(device.asked, [(10e6, 10), (1e3, 10)])

    def test_a_stated_loss_allows_what_it_says(self):
        device = Device(4e6)
        searching = search(device, resolution=0.001)
        with_loss, without = searching.highest_rate(0.01), searching.highest_rate(0)
        self.assertAlmostEqual(with_loss.rate_pps, 4e6 / 0.99, delta=5e3)
        self.assertAlmostEqual(without.rate_pps, 4e6, delta=5e3)
        self.assertLessEqual(with_loss.trial.loss, 0.01)
        self.assertEqual(len(device.asked), len({*device.asked}), "nothing is measured twice")

    def test_what_only_a_long_trial_shows_lowers_the_rate(self):
        # Up to 3 Mpps are taken for ever; up to 5 Mpps as long as a buffer lasts.
        device = Device(loss=lambda rate, seconds: 0.0 if rate <= (5e6 if seconds < 60 else 3e6) else 0.001)
        found = search(device).highest_rate(0)
        self.assertLessEqual(found.rate_pps, 3e6)
        self.assertGreaterEqual(found.rate_pps, 3e6 * 0.99)
        self.assertEqual((found.trial.seconds, found.trial.lost), (60, 0))
        self.assertLess(sum(seconds == 60 for _, seconds in device.asked), 12, "an hour of long trials")

    def test_a_slow_generator_is_not_taken_for_the_device(self):
        found = search(Device(1e9, generator=2e6)).highest_rate(0)
        self.assertAlmostEqual(found.rate_pps, 2e6, delta=5e4)
        self.assertEqual(found.limited_by, "generator")

    def test_one_frame_lost_is_one_too_many(self):
        device = Device(loss=lambda rate, seconds: 1 / (rate * seconds) if rate > 1e6 else 0)
        self.assertLessEqual(search(device).highest_rate(0).rate_pps, 1e6)

    def test_noise_ends_all_the_same(self):
        for seed in range(50):
            generator = random.Random(seed)
            device = Device(loss=lambda rate, seconds: generator.choice([0, 0.01]))
            found = search(device).highest_rate(0)
            self.assertLess(len(device.asked), 100)
            self.assertTrue(found.rate_pps is None or found.trial.lost == 0)

    def test_bounds_are_checked(self):
        for wrong in ({"lowest": 0}, {"lowest": 2, "highest": 1}, {"resolution": 0}, {"resolution": 1}, {"trial": 61}):
            with self.subTest(wrong), self.assertRaises(ValueError):
                search(Device(1), **wrong)


if __name__ == "__main__":
    unittest.main()
