#!/usr/bin/env python3
"""Measures a director with TRex: the highest rate without loss (RFC 2544) and with a stated loss, for each combination
of tunables, and the latency at parts of that rate. Writes one result file, with what the director counted meanwhile."""

import argparse
import datetime
import itertools
import json
import os
import pathlib
import platform
import shlex
import sys
from dataclasses import asdict

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent), str(pathlib.Path(__file__).resolve().parents[1])]

import director_stats
from search import Search
from trex_device import DeviceError, TrexDevice

SCHEMA_VERSION = 1
EXAMPLES = """
examples:
  sweep.py --server trex1 --profile stl/udp.py --sweep size=64,128,256,512,1024,1280,1518 \\
      --director "ssh director pointsman stats --json" --output frame-sizes.json
  sweep.py --server trex1 --profile stl/many_flows.py --sweep flows=1k,64k,1M,10M --loss 0.001 \\
      --tunables "--vip 192.168.88.15,192.168.88.16 --flow_stats 1" --loads 10,50,90 --output flows.json

exit status: 0 measured, 1 it could not be (what was measured until then is in the result file, marked incomplete),
2 wrong command line
"""


def main(arguments=None, open_device=TrexDevice):
    options = parse(arguments)
    results = begin(options)
    device = None
    try:
        director = director_stats.Director(options.director) if options.director else None
        if director is not None:
            # What is wrong with the command shows before the first frame.
            director.read()
        device = open_device(options.server, options.ports, options.profile)
        results["trex"] = device.describe()
        for values in itertools.product(*options.sweep.values()):
            point = {"tunables": {**options.tunables, **dict(zip(options.sweep, values))}, "complete": False}
            results["points"].append(point)
            measure_point(point, options, device, director)
            save(options.output, results)
        results["complete"] = True
        return 0
    except (DeviceError, director_stats.DirectorError, ValueError) as error:
        results["error"] = str(error)
        print(f"sweep.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        results["error"] = "interrupted"
        return 1
    finally:
        if device is not None:
            device.close()
        results["ended_at"] = now()
        save(options.output, results)
        print(f"written to {options.output}")


def parse(arguments):
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--server",
        default="127.0.0.1",
        help="host of the TRex server, running in stateless mode (t-rex-64 -i) (default: %(default)s)",
    )
    parser.add_argument(
        "--ports",
        type=two_ports,
        default="0,1",
        help="TRex's ports of the clients and of the real servers (default: %(default)s)",
    )
    parser.add_argument(
        "--profile",
        required=True,
        help="the profile, such as scripts/trex/stl/udp.py; stl/udp.py is found beside this program",
    )
    parser.add_argument(
        "--tunables",
        type=tunables,
        default="",
        metavar="TEXT",
        help='tunables of the profile, as "--vip 192.168.88.15 --flows 1M"',
    )
    parser.add_argument(
        "--sweep",
        type=several,
        action="append",
        default=[],
        metavar="NAME=V,V",
        help="measure with each of these values of a tunable; with several, each combination",
    )
    parser.add_argument(
        "--max", type=rate, metavar="PPS", help="highest rate to try, as 5M (default: what fills the line)"
    )
    parser.add_argument(
        "--min",
        type=rate,
        default="10k",
        metavar="PPS",
        help="lowest rate to try, more than that of the latency streams (default: %(default)s)",
    )
    parser.add_argument(
        "--resolution",
        type=float,
        default=0.01,
        help="how near the rate that passes shall be to one that fails (default: %(default)s)",
    )
    parser.add_argument(
        "--loss",
        type=fraction,
        action="append",
        default=[],
        metavar="FRACTION",
        help="search the highest rate with this loss too, as 0.001; may be repeated",
    )
    parser.add_argument(
        "--loads",
        type=percentages,
        default=[],
        metavar="P,P",
        help="then measure latency at these percentages of the rate without loss",
    )
    parser.add_argument(
        "--trial-seconds", type=positive, default=10.0, help="length of a trial of the search (default: %(default)s)"
    )
    parser.add_argument(
        "--final-seconds",
        type=positive,
        default=60.0,
        help="length of the trial that confirms; RFC 2544 wants 60 (default: %(default)s)",
    )
    parser.add_argument(
        "--warm-up-seconds",
        type=float,
        default=5.0,
        help="traffic at half the highest rate before the first trial, so that flows and addresses are known (default: %(default)s)",
    )
    parser.add_argument(
        "--director",
        metavar="COMMAND",
        help='prints the director\'s statistics, as "ssh director pointsman stats --json"',
    )
    parser.add_argument(
        "--output", type=pathlib.Path, required=True, help="the result file (JSON); an existing one is replaced"
    )
    options = parser.parse_args(arguments)
    options.sweep = dict(options.sweep)
    if not os.path.isfile(options.profile):
        beside = pathlib.Path(__file__).resolve().parent / options.profile
        if not beside.is_file():
            parser.error(f"there is no profile {options.profile}")
        options.profile = str(beside)
    if not options.output.parent.is_dir():
        parser.error(f"there is no directory {options.output.parent} for the result file")
    options.command = shlex.join([sys.argv[0], *(sys.argv[1:] if arguments is None else arguments)])
    return options


def two_ports(text):
    ports = [int(port) for port in text.split(",")]
    if len(set(ports)) != 2:
        raise argparse.ArgumentTypeError("two ports are needed, as 0,1")
    return ports


def tunables(text):
    words = shlex.split(text)
    if len(words) % 2 or not all(name.startswith("--") for name in words[::2]):
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form --name value --name value")
    return {name[2:]: value for name, value in zip(words[::2], words[1::2])}


def several(text):
    name, separator, values = text.partition("=")
    if not (name and separator and values):
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form NAME=VALUE,VALUE")
    return name, values.split(",")


def rate(text):
    factor = {"k": 1e3, "K": 1e3, "M": 1e6}.get(text[-1:], 1)
    return positive(text[:-1] if factor > 1 else text) * factor


def positive(text):
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def fraction(text):
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1 (0 is always searched for)")
    return value


def percentages(text):
    values = [float(part) for part in text.split(",")]
    if not all(0 < value <= 100 for value in values):
        raise argparse.ArgumentTypeError(f"{text} are no percentages")
    return values


def begin(options):
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "trex sweep",
        "complete": False,
        "command": options.command,
        "started_at": now(),
        "runner": {"host": platform.node(), "kernel": platform.release(), "python": platform.python_version()},
        "profile": options.profile,
        "resolution": options.resolution,
        "trial_seconds": options.trial_seconds,
        "final_seconds": options.final_seconds,
        "points": [],
    }


def now():
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def save(path, results):
    """As a whole or not at all: a reader, or an interruption, never meets a part."""
    beside = path.with_name(path.name + ".new")
    beside.write_text(json.dumps(results, indent=1) + "\n")
    beside.replace(path)


def measure_point(point, options, device, director):
    """All searches and loads with one combination of tunables."""
    line_rate = device.load(point["tunables"])
    highest = min(options.max or line_rate, line_rate)
    point.update({"line_rate_pps": line_rate, "trials": [], "searches": [], "loads": []})
    print(f"{point['tunables']}: up to {highest:.0f} pps")

    def measure(rate_pps, seconds):
        before = director.read() if director else None
        trial = device.measure(rate_pps, seconds)
        between = director_stats.difference(before, director.read()) if director else None
        entry = describe(trial, between)
        point["trials"].append(entry)
        print("  " + in_words(entry))
        return trial

    if options.warm_up_seconds > 0:
        device.measure(highest / 2, options.warm_up_seconds)
    search = Search(
        measure, min(options.min, highest), highest, options.resolution, options.trial_seconds, options.final_seconds
    )
    # From the greatest loss to none: each search begins where the one before has ended.
    for acceptable in sorted([0.0, *options.loss], reverse=True):
        found = search.highest_rate(acceptable)
        point["searches"].append(
            {
                "acceptable_loss": acceptable,
                "rate_pps": found.rate_pps,
                "of_line_rate": found.rate_pps and found.rate_pps / line_rate,
                "limited_by": found.limited_by,
                "confirmed_by": found.trial and describe(found.trial),
            }
        )
        print(
            f"  loss of at most {acceptable:g}: {'no rate' if found.rate_pps is None else f'{found.rate_pps:.0f} pps'}, limited by the {found.limited_by}"
        )
    without_loss = found.rate_pps
    for percent in options.loads if without_loss else []:
        measure(without_loss * percent / 100, options.trial_seconds)
        point["loads"].append({"percent": percent, "trial": len(point["trials"]) - 1})
    point["complete"] = True


def describe(trial, between=None):
    entry = {**asdict(trial), "lost": trial.lost, "loss": trial.loss}
    if between is not None:
        entry["director"] = between
    return entry


def in_words(entry):
    text = f"{entry['rate_pps']:.0f} pps for {entry['seconds']:g} s: {entry['lost']} of {entry['sent']} lost"
    if entry["invalid"]:
        text += f" (invalid: {entry['invalid']})"
    if "director" in entry:
        causes = director_stats.losses(entry["director"])
        text += f"; the director counted {entry['director']['received']['packets']} in, {entry['director']['tx']['packets']} out"
        text += "".join(f", {count} {cause}" for cause, count in causes.items())
    return text


if __name__ == "__main__":
    sys.exit(main())
