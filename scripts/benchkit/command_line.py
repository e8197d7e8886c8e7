"""The command line of scripts/bench."""

import argparse
import os
import pathlib

from benchkit import plan
from benchkit.contenders import ALL, REFERENCE, named
from benchkit.lab import ROOT
from benchkit.shape import number

QUICK_CONTENDERS = "pointsman,bridge,xdp-redirect,xdp-tx"
DESCRIPTION = """Measures forwarders beside each other: pointsman in its modes, DPDK's testpmd, the kernel's bridge and
forwarding, and XDP programs. The same generator, sink, cores and wires for all, and their runs in turn."""
EPILOG = """All of it is veth: what is measured is the software's work on this machine, not a network interface. docs/bench.md says
what each contender is, and how to read what is printed.

examples:
  scripts/bench --output run.json
  scripts/bench --contenders pointsman,bridge,xdp-tx --loop closed --runs 15 --seconds 1
  scripts/bench --contenders pointsman,pointsman:batch=256 --loop open
  scripts/bench --sweep flows --runs 5 --seconds 1
  scripts/bench --install-peers

exit status: 0 all is well; 1 something that must not be lost was lost, counts differ, or a run failed; 2 wrong usage"""


def read(arguments=None):
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    add = parser.add_argument
    add("--quick", action="store_true", help="a check that all works, in under a minute: few and short runs, and one of a sweep")
    add("--list", action="store_true", help="list the contenders and whether they are here, and end")
    add("--contenders", metavar="NAMES", help="which, with commas; pointsman:KEY=VALUE,... may have several settings (default: all)")
    add("--loop", choices=("open", "closed", "both"), help="generator to sink, or frames that go round (default: both; sweeps: open)")
    add("--sweep", choices=plan.SWEEPS, help="measure at several points of this")
    add("--points", metavar="VALUES", help="the points of the sweep, with commas; of poll with semicolons")
    add("--runs", type=whole, help="runs of each contender at each point (default 5)")
    add("--seconds", type=positive, help="length of a run (default 5)")
    add("--at-most", type=positive, metavar="SECONDS", help="begin no run after so long; what is not measured is named (default: 900 for a sweep)")
    add("--rate", help="frames in a second of the load that must lose nothing (default 5k)")
    add("--flows", type=counted, default=1000, help="number of flows, as 1000, 64k or 1Mi (default 1000)")
    add("--size", default="64", help="frame sizes, as of pointsman gen (default 64)")
    add("--napi", choices=("threaded", "inline"), default="threaded", help="packets are received by a thread on the receiver's core, or in the sender's system call (default threaded)")
    add("--binary", type=pathlib.Path, default=target / "release/pointsman", help="pointsman (default: the release build)")
    add("--output", type=pathlib.Path, metavar="FILE", help="write machine, commands, figures and all documents to this file")
    add("--install-peers", action="store_true", help="fetch DPDK's testpmd from Debian's packages into the build's folder, and end; nothing is installed into the system")
    options = parser.parse_args(arguments)
    try:
        complete(options)
    except ValueError as error:
        parser.error(str(error))
    return options


def complete(options):
    """What was not said. Raises ValueError."""
    if options.points and not options.sweep:
        raise ValueError("--points are those of a --sweep")
    if options.sweep in plan.OF_THE_OPEN_LOOP and options.loop not in (None, "open"):
        raise ValueError(f"a sweep of {options.sweep} needs the open loop: few frames go round in the closed one")
    options.runs = options.runs or (2 if options.quick else 5)
    options.seconds = options.seconds or (0.5 if options.quick else 5)
    # A veth ring has 256 frames: a thread may be kept from its core for a quarter of a second on a busy machine.
    options.rate = options.rate or ("1k" if options.quick else "5k")
    options.at_most = options.at_most or (900 if options.sweep else float("inf"))
    options.binary = options.binary.resolve()
    options.loops = {"open": ("open",), "closed": ("closed",), "both": ("open", "closed")}[
        options.loop or ("open" if options.sweep else "both")
    ]
    options.contenders = names(options.contenders or (QUICK_CONTENDERS if options.quick else ",".join(ALL)))
    if options.sweep:
        values = options.points.split(";" if options.sweep == "poll" else ",") if options.points else None
        options.points = tuple(values or plan.SWEEPS[options.sweep])
        if options.sweep in ("flows", "services", "real-servers"):
            any(number(value) for value in options.points)


def names(text):
    """Contenders; a comma within the settings of one is no end of it. The reference comes first."""
    found = []
    for part in text.split(","):
        if "=" in part and ":" not in part and found:
            found[-1] += f",{part}"
        else:
            found.append(part.strip())
    contenders = [named(name) for name in dict.fromkeys(found)]
    return sorted(contenders, key=lambda each: each.name != REFERENCE)


def counted(text):
    value = number(text)
    if value < 1:
        raise ValueError
    return value


def whole(text):
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def positive(text):
    value = float(text)
    if value <= 0:
        raise ValueError
    return value
