"""What all contenders have in common."""

from benchkit.lab import DIRECTOR_MAC, REAL_SERVER_MACS


class Contender:
    """Forwards from dir0 to dir1 (open loop), or from dir0 back to it (closed loop)."""

    name = ""
    # What it is and how it is configured, for the document.
    description = ""
    loops = ("open", "closed")
    # Where the generator sends to.
    to = DIRECTOR_MAC
    # Interfaces at which the closed loop is turned round.
    reflected_at = ("gen0",)
    # Whether it has no XDP program of its own, which veth wants for what XDP_TX sends.
    is_without_xdp = False

    def missing(self, _options):
        """Why it is not here; None if it is."""
        return None

    def real_servers(self, _shape):
        """MAC addresses that the sink is to accept."""
        return REAL_SERVER_MACS[:1]

    def start(self, programs, options, shape, loop):
        """Forwards when this returns."""
        raise NotImplementedError

    def document(self, _options, _programs):
        """Statistics of its own, if it has some in JSON."""
        return None
