"""The kernel samples' AF_XDP forwarder, which no distribution packages."""

import os
import shutil

from benchkit.contenders.contender import Contender


class Xdpsock(Contender):
    """Swaps MAC addresses and sends back by the same interface, so it has a closed loop only."""

    name = "xdpsock"
    description = "xdpsock -l (MAC swap) in copy mode, of the bpf-examples repository; the environment variable XDPSOCK names the program"
    loops = ("closed",)

    def missing(self, _options):
        program = os.environ.get("XDPSOCK")
        if not program:
            return "the environment variable XDPSOCK names none"
        return None if shutil.which(program) else f"XDPSOCK={program} is no program"

    def start(self, programs, options, shape, loop):
        core = programs.lab.cores["director"]
        command = ["taskset", "-c", core, shutil.which(os.environ["XDPSOCK"]), "-l", "-i", "dir0", "-q", "0", "-N", "-c"]
        programs.start("director", "contender", command)
        programs.wait_until("contender", lambda: "sock0@dir0" in programs.output("contender"))
