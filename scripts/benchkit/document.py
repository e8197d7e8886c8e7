"""The document of a measurement: figures, all that they come from, and what it was measured on."""

import os
import pathlib
import platform
import shlex
import subprocess
import sys
import time

from benchkit import figures
from benchkit.contenders import ALL, REFERENCE
from benchkit.lab import ROOT

SCHEMA_VERSION = 1
# By its key in a result: the unit is in the name.
OPEN = {
    "sent_pps": lambda run: run["generator"]["sent_pps"],
    "forwarded_pps": lambda run: run["sink"]["received_pps"],
    "arrived_percent": lambda run: 100 * run["sink"]["received"]["packets"] / run["generator"]["sent"]["packets"],
    "one_way_p50_ns": lambda run: run["sink"]["latency"]["p50"],
    "one_way_p99_ns": lambda run: run["sink"]["latency"]["p99"],
    "one_way_p99_9_ns": lambda run: run["sink"]["latency"]["p99_9"],
    "inside_p50_ns": lambda run: inside(run, "p50"),
    "inside_p99_9_ns": lambda run: inside(run, "p99_9"),
}
CLOSED = {
    "forwarded_pps": lambda run: run["forwarded_pps"],
    # Little's law: what is under way, by what comes round in a second.
    "round_trip_ns": lambda run: 1e9 * run["in_flight"] / run["forwarded_pps"] if run["alive_at_end"] else None,
}


def inside(run, percentile):
    return run["contender_document"] and run["contender_document"]["totals"]["latency"][percentile]


def result(point, runs, references):
    """Of one contender at one point: `references` are the reference's runs of the same rounds."""
    measured = OPEN if point.loop == "open" else CLOSED
    values = {name: [value_of(of, run) for run in runs] for name, of in measured.items()}
    forwarded = measured["forwarded_pps"]
    return {
        "figures": {name: figures.summary(each) for name, each in values.items()},
        "ratio_to_reference": figures.ratio(values["forwarded_pps"], [value_of(forwarded, run) for run in references]),
        "runs": [slim(run) for run in runs],
    }


def slim(run):
    """Without the buckets of distributions, of which a director's document has megabytes; those of `totals.latency` stay."""
    if not run.get("contender_document"):
        return run
    slimmed = without_buckets(run["contender_document"])
    slimmed["totals"]["latency"] = run["contender_document"]["totals"]["latency"]
    return {**run, "contender_document": slimmed}


def without_buckets(value):
    if isinstance(value, dict):
        return {key: without_buckets(each) for key, each in value.items() if key != "buckets"}
    return [without_buckets(each) for each in value] if isinstance(value, list) else value


def value_of(of, run):
    return None if "error" in run else of(run)


def point_document(at, point, rounds):
    references = rounds.runs.get((at, REFERENCE), [])
    return {
        "point": point.label,
        "loop": point.loop,
        "rate": point.rate,
        "frame_bytes": point.shape.size,
        "flows": point.shape.flows,
        "virtual_services": point.shape.services,
        "real_servers": point.shape.real_servers,
        "results": {each.name: result(point, rounds.runs[at, each.name], references) for each in point.takers()},
    }


def document(options, contenders, missing, points, faults, not_measured):
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "bench",
        **origin(options),
        "network": "veth",
        "seconds": options.seconds,
        "runs": options.runs,
        "reference": REFERENCE,
        "contenders": [
            {"name": each.name, "description": each.description, "missing": missing.get(each.name)}
            for each in {**ALL, **{each.name: each for each in contenders}}.values()
            if each in contenders or each.name in missing
        ],
        "points": points,
        "not_measured": not_measured,
        "faults": faults,
    }


def origin(options):
    """What was measured, where, and by which command."""
    return {
        "taken_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine(),
        "kernel": platform.release(),
        "commit": said("git", "describe", "--always", "--dirty"),
        "version": said(options.binary, "--version"),
        "binary": str(options.binary),
        "command": shlex.join(sys.argv),
        "cores": options.cores,
        "napi": options.napi,
    }


def machine():
    models = [line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo", encoding="utf-8") if "model name" in line]
    memory_kib = int(pathlib.Path("/proc/meminfo").read_text(encoding="utf-8").split()[1])
    return {
        "cpu": models[0] if models else platform.machine(),
        "cpus": os.cpu_count(),
        "memory_bytes": memory_kib * 1024,
    }


def said(*command):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
