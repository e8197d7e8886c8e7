"""The laboratory of a run: three namespaces in a row, with the same interfaces, cores and settings for each contender.

    generator gen0 ---- dir0 director dir1 ---- snk0 sink
"""

import os
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
# scripts/lab clean removes what stands here and whose owner no longer runs.
STATE_ROOT = pathlib.Path("/run/pointsman-lab")
HOSTS = ("generator", "director", "sink")
VIP = "192.168.88.15"
GENERATOR_MAC, DIRECTOR_MAC, EGRESS_MAC = "02:00:00:00:00:0a", "02:00:00:00:00:02", "02:00:00:00:00:03"
SINK_MAC = "02:00:00:00:00:0b"
# Contenders that know one destination only send all to the first.
REAL_SERVER_MACS = ("02:00:00:00:51:01", "02:00:00:00:51:02")
INTERFACES = {"gen0": "generator", "dir0": "director", "dir1": "director", "snk0": "sink"}
PEERS = {"gen0": "dir0", "snk0": "dir1"}


class LabError(Exception):
    """A run could not be made; the message says why."""


def cores_of_each():
    """Cores of their own as far as there are some; the director never shares its own if there are two."""
    cores = sorted(os.sched_getaffinity(0))
    return {host: cores[min(at, len(cores) - 1)] for at, host in enumerate(("director", "generator", "sink"))}


class Lab:
    """Made for one run, so that no contender finds what another one has left."""

    def __init__(self, name, cores, napi):
        self.name, self.cores, self.napi = name, cores, napi

    def __enter__(self):
        state = STATE_ROOT / self.name
        state.mkdir(parents=True)
        (state / "namespaces").write_text("".join(f"{self.name}-{host}\n" for host in HOSTS))
        started = pathlib.Path(f"/proc/{os.getpid()}/stat").read_text().rsplit(")", 1)[1].split()[19]
        (state / "owner").write_text(f"{os.getpid()} {started}\n")
        try:
            self.build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        subprocess.run([ROOT / "scripts/lab", "down", self.name], check=False)

    def build(self):
        for host in HOSTS:
            run(["ip", "netns", "add", f"{self.name}-{host}"])
        for interface, mac, peer, host, peer_mac in (
            ("dir0", DIRECTOR_MAC, "gen0", "generator", GENERATOR_MAC),
            ("dir1", EGRESS_MAC, "snk0", "sink", SINK_MAC),
        ):
            self.ip(
                "director",
                f"link add {interface} address {mac} type veth peer name {peer} address {peer_mac} netns {self.name}-{host}",
            )
        for host in HOSTS:
            # Nothing but the load is on the wires.
            self.shell(host, "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6")
            self.ip(host, "link set lo up")
        for interface, host in INTERFACES.items():
            self.ip(host, f"link set {interface} up")
            # Without an XDP program only GRO makes veth poll, else the sender's CPU would do the receiver's work.
            self.shell(host, f"ethtool -K {interface} gro on")
            if self.napi == "threaded":
                self.shell(host, f"echo 1 > /sys/class/net/{interface}/threaded")
        self.ip("director", "address add 192.168.88.2/24 dev dir0")
        self.ip("director", "address add 10.99.0.1/16 dev dir1")

    def ip(self, host, arguments):
        run(["ip", "-n", f"{self.name}-{host}", *arguments.split()])

    def shell(self, host, script):
        run(self.command(host, ["sh", "-ec", script]))

    def command(self, host, arguments):
        return ["ip", "netns", "exec", f"{self.name}-{host}", *map(str, arguments)]

    def attach(self, host, interface, program):
        """An XDP program, in the driver. `ip` attaches without a program of ours that would have to stay."""
        self.ip(host, f"link set dev {interface} xdpdrv obj {program} sec xdp")

    def pin_napi(self):
        """Each end's packets are received on the core of its host, whoever sends them."""
        if self.napi != "threaded":
            return
        for thread in pathlib.Path("/proc").glob("[0-9]*/comm"):
            try:
                found = re.fullmatch(r"napi/(\w+)-\d+", thread.read_text().strip())
                if found and found[1] in INTERFACES:
                    os.sched_setaffinity(int(thread.parent.name), {self.cores[INTERFACES[found[1]]]})
            except (FileNotFoundError, ProcessLookupError):
                continue

    def received(self, interface):
        """Packets that the interface has received, those that XDP took included."""
        path = f"/sys/class/net/{interface}/statistics/rx_packets"
        return int(run(self.command(INTERFACES[interface], ["cat", path])))


def run(command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"{' '.join(map(str, command))}: {done.stderr.strip() or done.stdout.strip() or done.returncode}")
    return done.stdout
