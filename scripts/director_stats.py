"""Reads a director's statistics (docs/stats.md), and says what happened between two readings."""

import json
import shlex
import subprocess

READING_TAKES_AT_MOST_S = 20
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99_9": 0.999, "p99_99": 0.9999}


class DirectorError(Exception):
    """The director's statistics could not be had."""


class Director:
    """A director whose statistics a command prints, such as `ssh director pointsman stats --json`."""

    def __init__(self, command):
        self.command = command

    def read(self):
        """The statistics of this moment."""
        try:
            ran = subprocess.run(
                shlex.split(self.command), capture_output=True, text=True, timeout=READING_TAKES_AT_MOST_S
            )
        except (OSError, ValueError) as error:
            raise DirectorError(f"'{self.command}' cannot be run: {error}") from error
        except subprocess.TimeoutExpired as error:
            raise DirectorError(f"'{self.command}' did not end in {READING_TAKES_AT_MOST_S} s") from error
        if ran.returncode != 0:
            raise DirectorError(
                f"'{self.command}' ended with status {ran.returncode}: {ran.stderr.strip() or 'no message'}"
            )
        try:
            document = json.loads(ran.stdout)
            version = document["schema_version"]
        except (ValueError, KeyError, TypeError) as error:
            raise DirectorError(f"'{self.command}' did not print a director's statistics; is --json in it?") from error
        if version != 1:
            raise DirectorError(f"the director's statistics are of schema version {version}, and this program knows 1")
        return document


def difference(before, after):
    """What one director counted between two documents, with the sums that tell where frames were lost."""
    if before["started_at"] != after["started_at"]:
        raise DirectorError("the director was started anew between two readings of its statistics")
    seconds = (after["taken_at"]["monotonic_ns"] - before["taken_at"]["monotonic_ns"]) / 1e9
    totals, earlier = after["totals"], before["totals"]
    return {
        "version": after["version"],
        "hostname": after["hostname"],
        "kernel": after["kernel"],
        "started_at": after["started_at"],
        "from": before["taken_at"],
        "to": after["taken_at"],
        "seconds": seconds,
        "received": grown(totals["received"], earlier["received"]),
        "tx": grown(totals["tx"], earlier["tx"]),
        "drops": grown(totals["drops"], earlier["drops"]),
        "flows": grown(totals["flows"], earlier["flows"]),
        "latency": latency(earlier["latency"], totals["latency"]),
        "interfaces": [interface(*pair) for pair in pairs(before["interfaces"], after["interfaces"], "name")],
        "workers": [worker(*pair) for pair in pairs(before["workers"], after["workers"], "worker")],
        "real_servers": real_servers(before, after),
        "identity": {name: side["holds"] for name, side in after["identity"].items()},
    }


def grown(after, before):
    """The differences of the counters in two objects; what only the later one has began at 0."""
    return {
        name: value - (before.get(name) or 0)
        for name, value in after.items()
        if isinstance(value, int) and not isinstance(value, bool)
    }


def pairs(before, after, key):
    earlier = {entry[key]: entry for entry in before}
    return [(earlier[entry[key]], entry) for entry in after if entry[key] in earlier]


def interface(before, after):
    rings = [
        grown(new["ring_statistics"] or {}, old["ring_statistics"] or {})
        for old, new in pairs(before["queues"], after["queues"], "queue")
    ]
    return {
        "name": after["name"],
        "mode": after["mode"],
        "zero_copy": [queue["zero_copy"] for queue in after["queues"]],
        "xdp": grown(after["xdp"] or {}, before["xdp"] or {}),
        "rx_dropped": sum(ring.get("rx_dropped", 0) for ring in rings),
        "rx_ring_full": sum(ring.get("rx_ring_full", 0) for ring in rings),
    }


def worker(before, after):
    cycles = grown(after["cycles"], before["cycles"])
    turning = cycles["busy"] + cycles["idle"]
    return {
        "worker": after["worker"],
        "core": after["core"],
        "received": after["received"]["packets"] - before["received"]["packets"],
        "tx": after["tx"]["packets"] - before["tx"]["packets"],
        "load": cycles["busy"] / turning if turning else None,
    }


def real_servers(before, after):
    found = []
    for old_service, service in pairs(before["virtual_services"], after["virtual_services"], "service"):
        for old, server in pairs(old_service["real_servers"], service["real_servers"], "address"):
            found.append(
                {
                    "service": service["service"],
                    "address": server["address"],
                    "tx": grown(server["tx"], old["tx"])["packets"],
                }
            )
    return found


def latency(before, after):
    """The distribution of the time between: counts of the same buckets, one taken from the other."""
    counted = {(bucket["from_ns"], bucket["to_ns"]): bucket["count"] for bucket in before["buckets"]}
    buckets = []
    for bucket in after["buckets"]:
        count = bucket["count"] - counted.get((bucket["from_ns"], bucket["to_ns"]), 0)
        if count:
            buckets.append((bucket["to_ns"], count))
    buckets.sort()
    total = sum(count for _, count in buckets)
    found = {"unit": "ns", "count": total}
    for name, share in PERCENTILES.items():
        found[name] = percentile(buckets, total, share)
    found["max"] = buckets[-1][0] if buckets else None
    return found


def percentile(buckets, total, share):
    """The end of the bucket in which this share of the values is reached."""
    seen = 0
    for end, count in buckets:
        seen += count
        if seen >= share * total:
            return end
    return None


def losses(between):
    """Where the director says that frames were lost, by cause, if any were."""
    found = {cause: count for cause, count in between["drops"].items() if count}
    for entry in between["interfaces"]:
        for name in ("rx_dropped", "rx_ring_full"):
            if entry[name]:
                found[f"{entry['name']}: {name}"] = entry[name]
    return found
