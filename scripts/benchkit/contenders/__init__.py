"""Those that are compared, by name. Each forwards in its own way what the same generator sends, to the same sink."""

from benchkit.contenders import bridge, ip_forward, pointsman, testpmd, xdp, xdpsock

# The one that all others are compared with.
REFERENCE = "pointsman"
ALL = {
    contender.name: contender
    for contender in (
        pointsman.Pointsman("pointsman"),
        pointsman.Pointsman("pointsman:poll=busy"),
        pointsman.Pointsman("pointsman:mode=generic"),
        bridge.Bridge(),
        ip_forward.IpForward(),
        xdp.XdpRedirect(),
        xdp.XdpTx(),
        testpmd.Testpmd("af_xdp"),
        testpmd.Testpmd("af_packet"),
        xdpsock.Xdpsock(),
    )
}


def named(name):
    """A contender; pointsman's may have settings behind a colon. Raises ValueError."""
    if name in ALL:
        return ALL[name]
    if name.split(":")[0] == REFERENCE:
        return pointsman.Pointsman(name)
    raise ValueError(f"there is no contender '{name}': {', '.join(ALL)}")
