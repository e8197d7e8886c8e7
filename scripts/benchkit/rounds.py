"""Takes the runs of points in turn, so that what the machine does besides hits all alike."""

import time

from benchkit import measure


class Rounds:
    """The runs of each point and contender, as far as the time goes."""

    def __init__(self, options, points, until):
        self.options, self.points, self.until = options, points, until
        self.runs = {(at, each.name): [] for at, point in enumerate(points) for each in point.takers()}
        self.not_measured = []

    def take(self, tell):
        for round_number in range(self.options.runs):
            for at, point in enumerate(self.points):
                takers = point.takers()
                # Each has been first, and behind each other, after as many rounds as there are takers.
                turn = round_number % len(takers)
                for contender in takers[turn:] + takers[:turn]:
                    if time.monotonic() > self.until:
                        self.not_measured.append(f"round {round_number + 1}: {point.label}: {contender.name}")
                        continue
                    tell(f"round {round_number + 1} of {self.options.runs}: {point.label}: {contender.name}")
                    self.runs[at, contender.name].append(self.run(point, contender))
        return self

    def run(self, point, contender):
        loop = measure.open_loop if point.loop == "open" else measure.closed_loop
        return loop(self.options, contender, point.shape, point.rate_of(contender))
