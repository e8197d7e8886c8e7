"""The search for the highest rate with an acceptable loss (RFC 2544, section 26.1, and the same for a loss above 0)."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Trial:
    """What was sent at one rate for some time, and what of it came out."""

    rate_pps: float
    seconds: float
    sent: int
    received: int
    # Why the trial says nothing of the device, such as a generator that was too slow.
    invalid: str | None = None
    details: dict = field(default_factory=dict)

    @property
    def lost(self):
        return max(0, self.sent - self.received)

    @property
    def loss(self):
        return self.lost / self.sent if self.sent else 1.0

    def passes(self, acceptable_loss):
        return self.invalid is None and self.sent > 0 and self.loss <= acceptable_loss


@dataclass(frozen=True)
class Found:
    """The end of a search; without a rate if not even the lowest one passed."""

    acceptable_loss: float
    rate_pps: float | None
    # The trial that confirmed it.
    trial: Trial | None
    # "device", "generator", or "highest rate" where none was left to try.
    limited_by: str


class Search:
    """Searches on one device: trials of an earlier search narrow the next one's bounds.

    `measure(rate_pps, seconds)` makes a trial. Rates are searched until two neighbours, one that passes and one that
    fails, are within `resolution` (a fraction of the higher one); the lower one is confirmed by a longer trial, and
    where that fails the search goes on below with long trials.
    """

    def __init__(self, measure, lowest_pps, highest_pps, resolution, trial_seconds, final_seconds):
        if not 0 < lowest_pps <= highest_pps:
            raise ValueError(
                f"the lowest rate ({lowest_pps:g} pps) must be above 0 and no higher than the highest ({highest_pps:g} pps)"
            )
        if not 0 < resolution < 1:
            raise ValueError(f"the resolution ({resolution:g}) must be between 0 and 1, as 0.01")
        if trial_seconds > final_seconds:
            raise ValueError(
                f"the trial that confirms ({final_seconds:g} s) must not be shorter than the others ({trial_seconds:g} s)"
            )
        self.measure = measure
        self.lowest_pps = lowest_pps
        self.highest_pps = highest_pps
        self.resolution = resolution
        self.trial_seconds = trial_seconds
        self.final_seconds = final_seconds
        self.trials = []

    def highest_rate(self, acceptable_loss):
        """The highest rate whose loss is at most this fraction; 0 is RFC 2544's throughput."""
        seconds = self.trial_seconds
        while True:
            rate, failed = self.narrow(acceptable_loss, seconds)
            if rate is None:
                return Found(acceptable_loss, None, None, self.limit(acceptable_loss, failed))
            trial = self.confirm(rate)
            if trial.passes(acceptable_loss):
                return Found(acceptable_loss, rate, trial, self.limit(acceptable_loss, failed))
            # Short trials pass where a buffer lasts that long. From here on long ones count alone.
            seconds = self.final_seconds

    def narrow(self, acceptable_loss, seconds):
        """The highest rate that passed a trial and the lowest above it that failed one, near to each other."""
        passed, failed = self.known(acceptable_loss, seconds)
        if failed is None:
            # RFC 2544 begins with the highest rate there is.
            if passed == self.highest_pps or self.make(self.highest_pps, seconds).passes(acceptable_loss):
                return self.highest_pps, None
            failed = self.highest_pps
        if passed is None:
            if failed <= self.lowest_pps or not self.make(self.lowest_pps, seconds).passes(acceptable_loss):
                return None, failed
            passed = self.lowest_pps
        while failed - passed > self.resolution * failed:
            middle = (passed + failed) / 2
            if self.make(middle, seconds).passes(acceptable_loss):
                passed = middle
            else:
                failed = middle
        return passed, failed

    def known(self, acceptable_loss, seconds):
        """Bounds from trials made before. Of trials that contradict each other the failed ones count."""
        failed = min((trial.rate_pps for trial in self.trials if not trial.passes(acceptable_loss)), default=None)
        passed = [
            trial.rate_pps
            for trial in self.trials
            if trial.passes(acceptable_loss)
            and trial.seconds >= seconds
            and (failed is None or trial.rate_pps < failed)
        ]
        return max(passed, default=None), failed

    def confirm(self, rate_pps):
        for trial in reversed(self.trials):
            if trial.rate_pps == rate_pps and trial.seconds >= self.final_seconds:
                return trial
        return self.make(rate_pps, self.final_seconds)

    def make(self, rate_pps, seconds):
        trial = self.measure(rate_pps, seconds)
        self.trials.append(trial)
        return trial

    def limit(self, acceptable_loss, failed):
        """What kept the rate from being higher: the device, the generator, or the highest rate that was asked for."""
        if failed is None:
            return "highest rate"
        refused = [trial for trial in self.trials if trial.rate_pps == failed and not trial.passes(acceptable_loss)]
        return "generator" if refused and all(trial.invalid for trial in refused) else "device"
