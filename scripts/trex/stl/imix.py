"""UDP in frames of 64, 594 and 1518 bytes, 7 : 4 : 1 (the simple IMIX): start -f imix.py -m 100kpps -t --flows 10k"""

import dr

# Size with checksum, and share, in TRex's own numbers (stl/imix.py).
MIX = [(64, 28), (594, 16), (1518, 4)]


class Imix:
    """Direction 0 is the clients' port; the real servers' port sends nothing."""

    def get_streams(self, direction, tunables, **kwargs):
        options = dr.parse(dr.tunables_parser(__doc__), tunables)
        return [] if direction else dr.requests(options, kwargs.get("port_id", 0), MIX)


def register():
    return Imix()
