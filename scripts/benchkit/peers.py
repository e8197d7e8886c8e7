"""Fetches programs to compare with into a folder of the build: nothing is installed into the system."""

import os
import pathlib
import platform
import shutil
import subprocess

from benchkit.lab import ROOT, LabError, run

PLACE = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "peers"
PACKAGES = ("dpdk-dev",)


def install():
    """Debian's packages and what they depend on, unpacked below PLACE."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise LabError("--install-peers takes the peers from Debian's packages, and there is no apt-get here")
    archives = PLACE / "archives"
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    subprocess.run(["apt-get", "-q", "update"], capture_output=True, check=False)
    run(["apt-get", "-q", "-y", "install", "--no-install-recommends", "--download-only", "-o", f"Dir::Cache::archives={archives.resolve()}", *PACKAGES])
    for package in sorted(archives.glob("*.deb")):
        run(["dpkg-deb", "--extract", package, PLACE / "root"])


def testpmd():
    """(program, what its environment needs, its options for drivers); None if there is none."""
    installed = shutil.which("dpdk-testpmd")
    if installed:
        return installed, {}, []
    root = (PLACE / "root").resolve()
    program = root / "usr/bin/dpdk-testpmd"
    if not program.exists():
        return None
    libraries = root / "usr/lib" / f"{platform.machine()}-linux-gnu"
    environment = {"LD_LIBRARY_PATH": str(libraries), "LIBXDP_OBJECT_PATH": str(libraries / "bpf")}
    return str(program), environment, [word for driver in drivers(libraries) for word in ("-d", str(driver))]


def drivers(libraries):
    """Those that are needed, not all that there are."""
    for name in ("librte_mempool_ring", "librte_net_af_xdp", "librte_net_af_packet", "librte_bus_vdev"):
        yield from libraries.glob(f"dpdk/pmds-*/{name}.so.[0-9]*.[0-9]*")
