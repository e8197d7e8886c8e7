"""The kernel's own forwarding."""

from benchkit.contenders.contender import Contender
from benchkit.lab import GENERATOR_MAC, REAL_SERVER_MACS, VIP


class IpForward(Contender):
    """Routes, takes one from the TTL, and rewrites both MAC addresses."""

    name = "ip-forward"
    description = "net.ipv4.ip_forward with one route to the VIP and a permanent neighbour; rp_filter and redirects off, no netfilter rules"
    is_without_xdp = True

    def start(self, programs, options, shape, loop):
        lab = programs.lab
        interface, gateway, mac = {
            "open": ("dir1", "10.99.1.1", REAL_SERVER_MACS[0]),
            "closed": ("dir0", "192.168.88.3", GENERATOR_MAC),
        }[loop]
        lab.shell(
            "director",
            "cd /proc/sys/net/ipv4; echo 1 > ip_forward;"
            " for each in all dir0 dir1; do echo 0 > conf/$each/rp_filter; echo 0 > conf/$each/send_redirects; done",
        )
        lab.ip("director", f"neighbour replace {gateway} lladdr {mac} dev {interface} nud permanent")
        lab.ip("director", f"route add {VIP}/32 via {gateway} dev {interface}")
