"""What is measured: points, each with a load and those that take it."""

import dataclasses

from benchkit.contenders import REFERENCE, named
from benchkit.shape import Shape, number

SIZES = ("64", "128", "256", "512", "1024", "1514")
FLOWS = ("1Ki", "16Ki", "128Ki", "1Mi", "4Mi")
SERVICES = ("1", "10", "100", "1000", "10000")
REAL_SERVERS = ("2", "10", "100", "1000", "10000")
BATCHES = ("1", "4", "16", "64", "256")
POLLS = ("poll=adaptive", "poll=adaptive,idle_spin_us=0", "poll=busy", "poll=busy,busy_poll=20")
LOADS_PERCENT = ("10", "25", "50", "75", "90", "100")
# What each sweep takes in turn, if --points does not say.
SWEEPS = {
    "frame-size": SIZES,
    "flows": FLOWS,
    "services": SERVICES,
    "real-servers": REAL_SERVERS,
    "batch": BATCHES,
    "poll": POLLS,
    "load": LOADS_PERCENT,
}
# The others have no such thing.
OF_POINTSMAN_ALONE = ("services", "real-servers", "batch", "poll")
# 128 frames that go round are of 128 flows at most, and have no rate.
OF_THE_OPEN_LOOP = ("flows", "services", "real-servers", "load")


@dataclasses.dataclass(frozen=True)
class Point:
    """One load for some contenders. In an open loop the rate is the same for all, or each one's own by its name."""

    label: str
    loop: str
    contenders: tuple
    shape: Shape
    rate: object = "max"
    # Whether nothing may be lost.
    gentle: bool = False

    def rate_of(self, contender):
        return self.rate[contender.name] if isinstance(self.rate, dict) else self.rate

    def takers(self):
        return [contender for contender in self.contenders if self.loop in contender.loops]


def loops(options, contenders, shape):
    """The measurement without a sweep."""
    points = []
    if "open" in options.loops:
        points.append(Point(f"open loop, {options.rate} frames/s", "open", contenders, shape, options.rate, gentle=True))
        points.append(Point("open loop, as many as can be", "open", contenders, shape))
    if "closed" in options.loops:
        points.append(Point("closed loop", "closed", contenders, shape))
    return [point for point in points if point.takers()]


def sweep(kind, values, options, contenders, shape):
    """The points of a sweep; that of the load needs each one's maximum first, see load()."""
    if kind in ("batch", "poll"):
        return side_by_side(kind, values, options, shape)
    if kind in OF_POINTSMAN_ALONE:
        contenders = tuple(each for each in contenders if each.name.startswith(REFERENCE))
    points = []
    for value in values:
        if kind == "frame-size":
            at = dataclasses.replace(shape, size=value)
        elif kind == "flows":
            at = dataclasses.replace(shape, flows=number(value))
        elif kind == "services":
            at = dataclasses.replace(shape, services=number(value), flows=max(shape.flows, number(value)))
        else:
            at = dataclasses.replace(shape, real_servers=number(value), flows=max(shape.flows, 16 * number(value)))
        points += [Point(f"{kind} {value}, {loop} loop", loop, contenders, at) for loop in options.loops]
    return [point for point in points if point.takers()]


def side_by_side(kind, values, options, shape):
    """Settings of pointsman are contenders of their own, compared with its defaults at one point."""
    settings = [f"batch={value}" if kind == "batch" else value for value in values]
    takers = (named(REFERENCE), *(named(f"{REFERENCE}:{setting}") for setting in settings))
    return [Point(f"{kind}, {loop} loop", loop, takers, shape) for loop in options.loops]


def load(percentages, maxima, contenders, shape):
    """Latency against load: for each contender parts of what it has forwarded at most, in frames a second."""
    takers = tuple(each for each in contenders if maxima.get(each.name))
    return [
        Point(
            f"load {percent} % of each one's own maximum",
            "open",
            takers,
            shape,
            {each.name: str(max(1, round(maxima[each.name] * float(percent) / 100))) for each in takers},
        )
        for percent in percentages
        if takers
    ]
