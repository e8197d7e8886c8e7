"""Starts programs in a laboratory, with their output in files, and ends them."""

import subprocess
import time

from benchkit.lab import LabError

READY_WITHIN_S = 15


class Programs:
    """What runs in one laboratory. None outlives it."""

    def __init__(self, lab, scratch):
        self.lab, self.scratch, self.running, self.commands = lab, scratch, {}, {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.running.values()):
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def start(self, host, name, arguments, environment=None):
        """Its standard input stays open until its end."""
        self.commands[name] = " ".join(map(str, arguments))
        with self.path(name, "out").open("w") as stdout, self.path(name, "log").open("w") as stderr:
            self.running[name] = subprocess.Popen(
                self.lab.command(host, arguments), stdin=subprocess.PIPE, stdout=stdout, stderr=stderr, env=environment
            )

    def path(self, name, ending):
        return self.scratch / f"{name}.{ending}"

    def output(self, name, ending="out"):
        return self.path(name, ending).read_text(errors="replace")

    def wait_until(self, name, ready):
        deadline = time.monotonic() + READY_WITHIN_S
        while not ready():
            if self.running[name].poll() is not None or time.monotonic() > deadline:
                raise LabError(f"the {name} is not ready:\n{self.said(name)}")
            time.sleep(0.05)

    def wait_for_end(self, name, seconds, accepted):
        try:
            code = self.running[name].wait(seconds)
        except subprocess.TimeoutExpired:
            code = "it does not end"
        if code not in accepted:
            raise LabError(f"the {name} failed ({code}):\n{self.said(name)}")

    def said(self, name):
        """The beginning and the end: programs that show their usage say first why."""
        text = (self.output(name, "log") + self.output(name)).strip()
        return text if len(text) < 1000 else f"{text[:500]}\n...\n{text[-500:]}"
