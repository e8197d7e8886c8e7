"""DPDK's test forwarder, over drivers that need no network card."""

import os

from benchkit import peers
from benchkit.contenders.contender import Contender
from benchkit.lab import REAL_SERVER_MACS

DRIVERS = {"af_xdp": ("net_af_xdp", "busy_budget=0"), "af_packet": ("net_af_packet", "framecnt=2048,blocksz=65536")}


class Testpmd(Contender):
    """Rewrites both MAC addresses (open loop) or swaps them (closed loop)."""

    def __init__(self, driver):
        self.name = f"testpmd-{driver.replace('_', '-')}"
        self.driver = driver
        self.is_without_xdp = driver == "af_packet"
        self.description = (
            f"DPDK's testpmd, {DRIVERS[driver][0]} with {DRIVERS[driver][1]}, --forward-mode=mac in the open loop and"
            " macswap in the closed one, one forwarding core, 1024 descriptors, no huge pages"
        )

    def missing(self, _options):
        if peers.testpmd() is None:
            return "there is no dpdk-testpmd: scripts/bench --install-peers fetches Debian's"
        return None

    def start(self, programs, options, shape, loop):
        program, environment, libraries = peers.testpmd()
        driver, settings = DRIVERS[self.driver]
        core = programs.lab.cores["director"]
        command = ["stdbuf", "-oL", program, *libraries, "--no-huge", "-m", "512", "--no-pci", "--no-telemetry", "--no-shconf"]
        command += ["--lcores", f"0@{core},1@{core}", "--main-lcore", "0"]
        interfaces = ("dir0", "dir1") if loop == "open" else ("dir0",)
        for number, interface in enumerate(interfaces):
            command += ["--vdev", f"{driver}{number},iface={interface},{settings}"]
        command += ["--", "--nb-cores=1", "--total-num-mbufs=16384", "--txd=1024", "--rxd=1024", "--auto-start"]
        if loop == "open":
            command += ["--forward-mode=mac", f"--eth-peer=1,{REAL_SERVER_MACS[0]}"]
        else:
            command += ["--forward-mode=macswap"]
        programs.start("director", "contender", command, environment={**os.environ, **environment})
        programs.wait_until("contender", lambda: "packet forwarding - ports=" in programs.output("contender"))
