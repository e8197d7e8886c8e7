"""One run of one contender: in a fresh laboratory, by the open or the closed loop."""

import itertools
import json
import os
import pathlib
import tempfile
import time

from benchkit.compile import clang_is_missing, compiled
from benchkit.lab import INTERFACES, PEERS, Lab, LabError
from benchkit.programs import Programs

# Lost in a run that must lose nothing, by the sink's exit code.
UNSOUND = 3
# Frames that go round in the closed loop: fewer than a veth ring's 256, so that none has to be lost.
IN_FLIGHT = 128
SAMPLES = 5
laboratories = itertools.count()


def in_lab(options, contender, shape, loop, measured):
    """Makes the laboratory, starts the contender, and has it measured. A run is a dictionary, with `error` if it failed."""
    run = {"contender": contender.name, "loop": loop}
    started = time.monotonic()
    try:
        with (
            tempfile.TemporaryDirectory() as scratch,
            Lab(f"pmb-{os.getpid()}-{next(laboratories)}", options.cores, options.napi) as lab,
            Programs(lab, pathlib.Path(scratch)) as programs,
        ):
            contender.start(programs, options, shape, loop)
            run |= measured(options, contender, shape, programs)
            run["commands"] = programs.commands
    except LabError as error:
        run["error"] = str(error)
    run["took_s"] = round(time.monotonic() - started, 3)
    return run


def open_loop(options, contender, shape, rate):
    """Generator, contender, sink: what each of them says."""

    def measured(options, contender, shape, programs):
        start_sink(options, contender, shape, programs)
        start_generator(options, contender, shape, programs, ["--rate", rate, "--duration", options.seconds])
        programs.wait_for_end("generator", options.seconds + 60, (0,))
        end_sink(programs)
        documents = {name: json.loads(programs.output(name)) for name in ("generator", "sink")}
        return {"rate": rate, **documents, "contender_document": contender.document(options, programs)}

    return in_lab(options, contender, shape, "open", measured)


def start_sink(options, contender, shape, programs):
    """Ready when this returns, and all ends of wires are where they belong."""
    servers = [word for mac in contender.real_servers(shape) for word in ("--real-server", mac)]
    core = programs.lab.cores["sink"]
    command = [options.binary, "sink", "-i", "snk0", "--core", core, "--quiet", "1", "--json", *servers]
    programs.start("sink", "sink", command)
    programs.wait_until("sink", lambda: "ready" in programs.output("sink", "log"))
    programs.lab.pin_napi()


def end_sink(programs):
    """A sink that has received nothing does not know that the run is over."""
    sink = programs.running["sink"]
    deadline = time.monotonic() + 5
    while sink.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    if sink.poll() is None:
        sink.terminate()
    programs.wait_for_end("sink", 10, (0, UNSOUND))


def closed_loop(options, contender, shape, _rate=None):
    """Frames that go round between the contender and a reflector: how often in a second, and whether all live on."""

    def measured(options, contender, shape, programs):
        lab = programs.lab
        reflector = compiled("reflect", programs.scratch)
        for interface in contender.reflected_at:
            lab.attach(INTERFACES[interface], interface, reflector)
            if contender.is_without_xdp:
                lab.attach("director", PEERS[interface], compiled("pass", programs.scratch))
        lab.pin_napi()
        start_generator(options, contender, shape, programs, ["--rate", "10k", "--count", IN_FLIGHT])
        programs.wait_for_end("generator", 30, (0,))
        counts, times = [], []
        for sample in range(SAMPLES + 1):
            if sample:
                time.sleep(options.seconds / SAMPLES)
            counts.append(sum(lab.received(interface) for interface in contender.reflected_at))
            times.append(time.monotonic())
        rates = [
            (after - before) / (later - earlier)
            for (before, after), (earlier, later) in zip(itertools.pairwise(counts), itertools.pairwise(times))
        ]
        return {
            "forwarded_pps": (counts[-1] - counts[0]) / (times[-1] - times[0]),
            "rates_within_pps": rates,
            "in_flight": IN_FLIGHT,
            "alive_at_end": rates[-1] > 0,
            "contender_document": contender.document(options, programs),
        }

    return in_lab(options, contender, shape, "closed", measured)


def closed_loop_is_missing():
    """Why there is no closed loop; None if there is."""
    return clang_is_missing()


def start_generator(options, contender, shape, programs, how_many):
    command = [
        options.binary, "gen", "-i", "gen0", "--service", shape.service_range(), "--to", contender.to,
        "--flows", shape.flows, "--size", shape.size, "--cores", programs.lab.cores["generator"], "--json", *how_many,
    ]  # fmt: skip
    programs.start("generator", "generator", command)
