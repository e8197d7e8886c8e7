#!/usr/bin/env python3
"""Sends UDP to a director's VIPs by the kernel's packet generator, pktgen, and prints and saves what was offered, what
was sent, and what the director counted in the same seconds."""

import datetime
import json
import pathlib
import platform
import signal
import sys
import time

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent), str(pathlib.Path(__file__).resolve().parents[1])]

import director_stats
from command_line import parse
from kernel import NoPktgen, Pktgen, PktgenError
from plan import PlanError, Traffic, plan

SCHEMA_VERSION = 1
MEASURED, FAILED, WRONG, NO_PKTGEN = 0, 1, 2, 3
# The director has counted all when two readings are the same; frames in queues are out long before this has passed.
SETTLES_WITHIN_S = 5


def main(arguments=None, open_pktgen=Pktgen):
    options = parse(__doc__, arguments)
    try:
        traffics = [(size, plan_of(options, size)) for size in options.size]
    except PlanError as error:
        print(f"pktgen.py: {error}", file=sys.stderr)
        return WRONG
    if options.dry_run:
        for _, planned in traffics:
            show(planned)
        return MEASURED
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    results = begin(options)
    try:
        director = director_stats.Director(options.director) if options.director else None
        generator = open_pktgen()
        try:
            if director is not None:
                # What is wrong with the command shows before the first packet.
                director.read()
            for size, planned in traffics:
                run = run_once(options, size, planned, generator, director)
                results["runs"].append(run)
                print(in_words(run))
        finally:
            generator.close()
        results["complete"] = True
        return MEASURED
    except (PktgenError, director_stats.DirectorError, OSError) as error:
        results["error"] = str(error)
        print(f"pktgen.py: {error}", file=sys.stderr)
        return NO_PKTGEN if isinstance(error, NoPktgen) else FAILED
    except KeyboardInterrupt:
        results["error"] = "interrupted"
        return FAILED
    finally:
        save(options.output, results)


def plan_of(options, size):
    """The plan of one run; a rate in bits needs the mean size first."""
    common = {
        "interface": options.interface,
        "dst_mac": options.dst_mac,
        "vips": options.vip,
        "port": options.port,
        "cores": options.cores,
        "queues": queues(options),
        "packets": options.packets,
        "size": size,
        "flows": options.flows,
        "clients": options.clients,
        "burst": options.burst,
        "vlan": options.vlan,
        "udp_checksum": options.udp_checksum,
    }
    planned = plan(Traffic(**common, rate_pps=None))
    pps = pps_of(options, planned)
    return planned if pps is None else plan(Traffic(**common, rate_pps=pps))


def pps_of(options, planned):
    if options.rate is None:
        return None
    unit, value = options.rate
    return value if unit == "pps" else value / 8 / planned.mean_size


def queues(options):
    """The first and the last transmit queue of each core."""
    directory = pathlib.Path(f"/sys/class/net/{options.interface}/queues")
    there = len(list(directory.glob("tx-*"))) or 1
    if options.all_queues:
        return tuple((0, there - 1) for _ in options.cores)
    named = options.queues or range(there)
    return tuple((named[i % len(named)],) * 2 for i in range(len(options.cores)))


def show(planned):
    for device in planned.devices:
        print(f"# core {device.core}, {planned.flows} flows in all")
        print(f'echo "add_device {device.name}" > /proc/net/pktgen/kpktgend_{device.core}')
        for setting in device.settings:
            print(f'echo "{setting}" > /proc/net/pktgen/{device.name}')
    print('echo "start" > /proc/net/pktgen/pgctrl')


def begin(options):
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "pktgen",
        "complete": False,
        "command": options.command,
        "taken_at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "host": platform.node(),
        "kernel": platform.release(),
        "runs": [],
    }


def save(path, results):
    """As a whole or not at all: a reader never meets a part."""
    if path is not None:
        beside = path.with_name(path.name + ".new")
        beside.write_text(json.dumps(results, indent=1) + "\n")
        beside.replace(path)


def run_once(options, size, planned, generator, director):
    generator.set_up(planned.devices)
    interface_before = interface_counters(options.interface)
    before = director.read() if director else None
    samples = []
    generator.start()
    try:
        begun = time.monotonic()
        while True:
            # In steps from the beginning, so that readings that take long do not add up.
            step = begun + options.interval * (len(samples) + 1)
            end = float("inf") if options.packets else begun + options.duration
            if generator.wait(max(0.0, min(step, end) - time.monotonic())):
                break
            # A reading at the end would make the run longer; but one there shall be.
            if time.monotonic() >= end and samples:
                break
            samples.append(sample(time.monotonic() - begun, generator, director, before))
    finally:
        generator.stop()
    counts = generator.counts()
    between = director_stats.difference(before, settled(director)) if director else None
    return result(
        options, size, planned, counts, samples, interface_grown(options.interface, interface_before), between
    )


def sample(at, generator, director, before):
    counts = generator.counts().values()
    found = {
        "at_s": round(at, 3),
        "sent": sum(count["sent"] for count in counts),
        "errors": sum(count["errors"] for count in counts),
    }
    if director is not None:
        between = director_stats.difference(before, director.read())
        found |= {
            "received": between["received"]["packets"],
            "tx": between["tx"]["packets"],
            "dropped": sum(between["drops"].values()),
        }
    return found


def settled(director):
    """The statistics when nothing moves any more: frames may be in queues yet when pktgen has ended."""
    last, until = director.read(), time.monotonic() + SETTLES_WITHIN_S
    while time.monotonic() < until:
        time.sleep(0.2)
        now = director.read()
        if now["totals"]["received"] == last["totals"]["received"] and now["totals"]["tx"] == last["totals"]["tx"]:
            return now
        last = now
    return last


def interface_counters(interface):
    directory = pathlib.Path(f"/sys/class/net/{interface}/statistics")
    return {name: int((directory / name).read_text()) for name in ("tx_packets", "tx_bytes", "tx_dropped", "tx_errors")}


def interface_grown(interface, before):
    return {name: value - before[name] for name, value in interface_counters(interface).items()}


def result(options, size, planned, counts, samples, interface, between):
    sent = sum(count["sent"] for count in counts.values())
    errors = sum(count["errors"] for count in counts.values())
    elapsed = (
        max(count["stopped_us"] for count in counts.values()) - min(count["started_us"] for count in counts.values())
    ) / 1e6
    pps = pps_of(options, planned)
    if options.packets:
        offered, offered_by = options.packets, "packets"
    elif pps is not None:
        offered, offered_by = round(pps * elapsed), "rate"
    else:
        offered, offered_by = sent + errors, "attempts"
    sent_bytes = sent_in_bytes(counts, planned)
    run = {
        "size": size,
        "flows": {"asked": options.flows, "made": planned.flows},
        "vips": len(options.vip),
        "cores": list(options.cores),
        "burst": options.burst,
        "rate_pps": pps,
        "offered": {"packets": offered, "by": offered_by},
        "sent": {"packets": sent, "bytes": sent_bytes},
        "errors": errors,
        "seconds": elapsed,
        "pps": sent / elapsed if elapsed else None,
        "bps": sent_bytes * 8 / elapsed if elapsed else None,
        "interface": {"name": options.interface, **interface},
        "devices": counts,
        "samples": samples,
    }
    if between is not None:
        run["director"] = between
        run["compared"] = {
            "sent": sent,
            "received": between["received"]["packets"],
            "tx": between["tx"]["packets"],
            "not_received": sent - between["received"]["packets"],
            "received_and_not_sent_on": between["received"]["packets"] - between["tx"]["packets"],
            "losses": director_stats.losses(between),
        }
    return run


def sent_in_bytes(counts, planned):
    """Exact: of a mix the kernel counts each size."""
    total = 0
    for count in counts.values():
        if count["sizes"] is None:
            total += round(count["sent"] * planned.mean_size)
        else:
            total += sum(size * number for size, number in count["sizes"].items())
    return total


def in_words(run):
    text = (
        f"size {run['size']}, {run['flows']['made']} flows: offered {run['offered']['packets']}, sent {run['sent']['packets']} "
        f"in {run['seconds']:.3f} s ({(run['pps'] or 0) / 1e6:.3f} Mpps, {(run['bps'] or 0) / 1e9:.3f} Gbps), {run['errors']} errors"
    )
    if "compared" in run:
        compared = run["compared"]
        text += f"; the director received {compared['received']} and sent on {compared['tx']}"
        text += "".join(f", {count} {cause}" for cause, count in compared["losses"].items())
    return text


if __name__ == "__main__":
    sys.exit(main())
