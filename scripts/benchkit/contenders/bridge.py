"""The kernel's bridge."""

from benchkit.contenders.contender import Contender
from benchkit.lab import REAL_SERVER_MACS


class Bridge(Contender):
    """Looks up the destination in its table, and changes nothing in the frame."""

    name = "bridge"
    description = "Linux bridge of dir0 and dir1, without spanning tree and multicast snooping; the sink's address is a static entry"
    to = REAL_SERVER_MACS[0]
    # It never sends a frame back by the port that it came in by, so the closed loop goes through both.
    reflected_at = ("gen0", "snk0")
    is_without_xdp = True

    def start(self, programs, options, shape, loop):
        lab = programs.lab
        lab.ip("director", "address flush dev dir0")
        lab.ip("director", "address flush dev dir1")
        lab.ip("director", "link add br0 type bridge forward_delay 0 stp_state 0 mcast_snooping 0")
        for port in ("dir0", "dir1"):
            lab.ip("director", f"link set {port} master br0")
        lab.ip("director", "link set br0 up")
        lab.shell("director", f"bridge fdb add {self.to} dev dir1 master static")
