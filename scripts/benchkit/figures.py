"""Medians, their intervals, and how values lie. Pure functions of numbers."""

import math
import statistics

WANTED_CONFIDENCE = 0.95


def summary(values):
    """Median, least, most, and how they spread; None of no values."""
    values = sorted(value for value in values if value is not None)
    if not values:
        return None
    middle = statistics.median(values)
    return {
        "runs": len(values),
        "median": middle,
        "min": values[0],
        "max": values[-1],
        # Of the median: 0.1 is values that lie within a tenth of it.
        "spread": (values[-1] - values[0]) / middle if middle else None,
        "two_groups": two_groups(values),
    }


def two_groups(values):
    """Whether values fall apart into two groups, for which a median says little.

    True if the widest gap between neighbours is over half of the whole range and has two values or more on either side:
    one that lies apart is no group. Of fewer than four values nobody can tell.
    """
    values = sorted(values)
    whole = values[-1] - values[0]
    if len(values) < 4 or whole == 0:
        return False
    gaps = [after - before for before, after in zip(values, values[1:])]
    # Two at least on both sides.
    inner = gaps[1:-1]
    return max(inner) > whole / 2 and whole > 0.1 * statistics.median(values)


def ratio(values, references):
    """Paired ratios of runs of the same rounds: their median with its interval. None without a pair."""
    ratios = sorted(
        value / reference
        for value, reference in zip(values, references)
        if value is not None and reference not in (None, 0)
    )
    if not ratios:
        return None
    low, high, confidence = median_interval(ratios)
    return {
        "pairs": len(ratios),
        "median": statistics.median(ratios),
        "low": low,
        "high": high,
        "confidence": confidence,
    }


def median_interval(values):
    """(low, high, confidence) of the median of what `values` are a sample of.

    By order statistics: the number of values below the true median is binomial with 1/2, whatever the distribution. The
    narrowest symmetric interval that has 95 %, or all that there is with what it has (5 values: 93.75 %).
    """
    values = sorted(values)
    count = len(values)
    cut = 0
    while 2 * (cut + 1) < count and confidence_of(count, cut + 1) >= WANTED_CONFIDENCE:
        cut += 1
    return values[cut], values[count - 1 - cut], confidence_of(count, cut)


def confidence_of(count, cut):
    """That of the interval without the `cut` least and the `cut` greatest of `count` values."""
    return 1 - 2 * sum(math.comb(count, below) for below in range(cut + 1)) / 2**count if count > 1 else 0.0
