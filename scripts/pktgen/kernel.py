"""The kernel's pktgen by /proc/net/pktgen: sets devices up, runs them, reads what they say, and takes them away."""

import contextlib
import fcntl
import pathlib
import re
import subprocess
import threading

OPTIONAL = {
    # Older kernels' pktgen does not know the flag.
    "flag !SHARED",
}


class PktgenError(Exception):
    """pktgen refused something, or is not to be had."""


class NoPktgen(PktgenError):
    """This kernel has no pktgen."""


class Pktgen:
    """The kernel's pktgen, for one run at a time."""

    def __init__(self, root="/proc/net/pktgen"):
        self.root = pathlib.Path(root)
        self.devices = []
        self.failure = None
        if not (self.root / "pgctrl").exists():
            # As modules go: it may be there and not be loaded.
            load_module()
        if not (self.root / "pgctrl").exists():
            raise NoPktgen(
                "this kernel has no pktgen: there is no /proc/net/pktgen, and 'modprobe pktgen' does not bring it "
                "(CONFIG_NET_PKTGEN is not set, or its module is not installed; Debian's linux-image packages have it). "
                "The alternative is pointsman's own generator on AF_XDP: 'pointsman gen --help'"
            )
        try:
            self.control = open(self.root / "pgctrl", "w")
        except PermissionError as error:
            raise PktgenError("pktgen takes orders of root alone: run this as root") from error
        try:
            fcntl.flock(self.control, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.control.close()
            raise PktgenError("pktgen is in use by another run of this program") from error

    def set_up(self, devices):
        self.devices = list(devices)
        for core in sorted({device.core for device in devices}):
            if not (self.root / f"kpktgend_{core}").exists():
                raise PktgenError(f"pktgen has no thread for core {core} (no /proc/net/pktgen/kpktgend_{core})")
            self.tell(f"kpktgend_{core}", "rem_device_all")
        for device in devices:
            self.tell(f"kpktgend_{device.core}", f"add_device {device.name}")
            for setting in device.settings:
                self.tell(device.name, setting, setting in OPTIONAL)

    def tell(self, file, text, may_be_unknown=False):
        try:
            with open(self.root / file, "w") as told:
                told.write(text + "\n")
        except OSError as error:
            if may_be_unknown:
                return
            hint = ""
            if text.startswith("imix_weights"):
                hint = "; IMIX needs Linux 5.15 or newer"
            elif text.startswith("burst"):
                hint = "; the driver does not take bursts of one packet (veth, for one): use --burst 1"
            elif text.startswith("add_device"):
                hint = "; is there such an interface, and is it up?"
            raise PktgenError(f"pktgen refused '{text}' for {file}: {error.strerror}{hint}") from error

    def start(self):
        """Begins to send. The write returns when all devices are done, so it is another thread's."""
        self.runner = threading.Thread(target=self.run, daemon=True)
        self.runner.start()

    def run(self):
        try:
            with open(self.root / "pgctrl", "w") as control:
                control.write("start\n")
        except OSError as error:
            self.failure = error

    def wait(self, seconds):
        """Whether all devices are done, after this time at the latest."""
        self.runner.join(seconds)
        if self.failure is not None:
            raise PktgenError(f"pktgen did not start: {self.failure.strerror}; is the interface up?")
        return not self.runner.is_alive()

    def stop(self):
        self.tell("pgctrl", "stop")
        if not self.wait(10):
            raise PktgenError("pktgen does not stop")

    def counts(self):
        """What each device says of itself, by its name."""
        return {device.name: parse(self.read(device.name)) for device in self.devices}

    def read(self, name):
        return (self.root / name).read_text()

    def close(self):
        for core in sorted({device.core for device in self.devices}):
            # Gone already, or never there.
            with contextlib.suppress(PktgenError):
                self.tell(f"kpktgend_{core}", "rem_device_all")
        self.control.close()


def load_module():
    # Without modprobe there are no modules either.
    with contextlib.suppress(OSError):
        subprocess.run(["modprobe", "--quiet", "pktgen"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def parse(text):
    """The numbers in the file of a device (Documentation/networking/pktgen.rst)."""
    sofar = re.search(r"pkts-sofar: (\d+)\s+errors: (\d+)", text)
    times = re.search(r"started: (\d+)us\s+stopped: (\d+)us", text)
    if not (sofar and times):
        raise PktgenError(f"the file of a device is not as expected: {text[:200]!r}")
    result = re.search(r"^Result: (.*)", text, re.MULTILINE)
    sizes = re.search(r"imix_size_counts: (.*)", text)
    return {
        "sent": int(sofar[1]),
        "errors": int(sofar[2]),
        "started_us": int(times[1]),
        "stopped_us": int(times[2]),
        "result": result[1].strip() if result else None,
        "sizes": {int(size): int(count) for size, count in re.findall(r"(\d+),(\d+)", sizes[1])} if sizes else None,
    }
