"""In the kernel's XDP hook: what forwarding costs without a socket, and without a balancer's work."""

from benchkit.compile import clang_is_missing, compiled
from benchkit.contenders.contender import Contender
from benchkit.lab import run


class XdpRedirect(Contender):
    """The two MAC addresses rewritten, as direct routing does, and out by the other interface."""

    name = "xdp-redirect"
    description = "an XDP program that writes both MAC addresses and returns bpf_redirect(dir1): no parsing, no choice, no counters"
    loops = ("open",)

    def missing(self, _options):
        return clang_is_missing()

    def start(self, programs, options, shape, loop):
        lab = programs.lab
        egress = int(run(lab.command("director", ["cat", "/sys/class/net/dir1/ifindex"])))
        lab.attach("director", "dir0", compiled("redirect", programs.scratch, EGRESS=egress))


class XdpTx(Contender):
    """The shortest way that a frame can be sent back."""

    name = "xdp-tx"
    description = "an XDP program that swaps the MAC addresses and returns XDP_TX: no parsing, no choice, no counters"
    loops = ("closed",)

    def missing(self, _options):
        return clang_is_missing()

    def start(self, programs, options, shape, loop):
        programs.lab.attach("director", "dir0", compiled("swap", programs.scratch))
