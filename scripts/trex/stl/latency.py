"""Latency alone, at a low rate and in three sizes: start -f latency.py -t --vip 192.168.88.15"""

import dr

SIZES = [64, 594, 1518]


class Latency:
    """One stream for each size; TRex's statistics name them by packet group: 10, 11, 12 for port 0, 30 ... for port 1."""

    def get_streams(self, direction, tunables, **kwargs):
        options = dr.parse(dr.tunables_parser(__doc__), tunables)
        return [] if direction else dr.latency_streams(options, kwargs.get("port_id", 0), SIZES)


def register():
    return Latency()
