"""Prints the files that scripts/pktgen needs of Python: the interpreter first, then the modules that a run takes."""

import contextlib
import io
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "scripts/pktgen"))

import pktgen

# Help and a plan call for what is imported late; a traceback, if it comes to that, too.
import shutil  # noqa: F401 -- for argparse, when it prints
import traceback  # noqa: F401

with contextlib.redirect_stdout(io.StringIO()):
    pktgen.main(
        "--interface lo --dst-mac 02:00:00:00:00:02 --vip 192.168.88.15 --dry-run --packets 1 --director false".split()
    )

print(os.path.realpath(sys.executable))
for module in list(sys.modules.values()):
    path = getattr(module, "__file__", None)
    if path and "scripts" not in path and path != __file__:
        print(path)
# By this one Python finds its library.
print(os.__file__)
