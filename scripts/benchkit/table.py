"""Prints results for people."""

# Key of a result, title, factor, decimals.
OPEN = (
    ("forwarded_pps", "forwarded, kpps", 1e-3, 1),
    ("arrived_percent", "arrived, %", 1, 1),
    ("one_way_p50_ns", "one way p50, us", 1e-3, 1),
    ("one_way_p99_ns", "p99, us", 1e-3, 1),
    ("one_way_p99_9_ns", "p99.9, us", 1e-3, 1),
)
CLOSED = (("forwarded_pps", "forwarded, kpps", 1e-3, 1), ("round_trip_ns", "round trip, us", 1e-3, 1))


def of_point(point):
    """Lines of a table: a row for each contender, medians with the least and the most."""
    columns = OPEN if point["loop"] == "open" else CLOSED
    rows = [["", *(title for _, title, _, _ in columns), "to pointsman", "spread"]]
    for name, result in point["results"].items():
        figures = result["figures"]
        cells = [cell(figures[key], factor, decimals) for key, _, factor, decimals in columns]
        rows.append([name, *cells, ratio(result["ratio_to_reference"]), spread(figures["forwarded_pps"])])
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return [f"\n{point['point']}: median [min-max] of {runs(point)} runs", *(
        "  " + "  ".join(text.ljust(width) if at == 0 else text.rjust(width) for at, (text, width) in enumerate(zip(row, widths)))
        for row in rows
    )]  # fmt: skip


def runs(point):
    counts = sorted({len(result["runs"]) for result in point["results"].values()})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def cell(summary, factor, decimals):
    if summary is None:
        return "-"
    middle, low, high = (f"{summary[key] * factor:,.{decimals}f}" for key in ("median", "min", "max"))
    return f"{middle} [{low}-{high}]" if summary["runs"] > 1 else middle


def ratio(found):
    if found is None:
        return "-"
    if found["pairs"] == 1:
        return f"{found['median']:.2f}"
    return f"{found['median']:.2f} [{found['low']:.2f}-{found['high']:.2f}, {100 * found['confidence']:.0f} %]"


def spread(summary):
    if summary is None or summary["spread"] is None:
        return "-"
    return f"{100 * summary['spread']:.0f} %{', two groups' if summary['two_groups'] else ''}"
