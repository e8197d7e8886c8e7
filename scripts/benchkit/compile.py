"""Compiles the bench's XDP programs, where clang is."""

import pathlib
import platform
import shutil

from benchkit.lab import run

SOURCES = pathlib.Path(__file__).resolve().parent / "xdp"


def clang_is_missing():
    """Why they cannot be compiled; None if they can."""
    return None if shutil.which("clang") else "its XDP program is compiled by clang, which is not installed"


def compiled(name, scratch, **defined):
    """The file of a program."""
    file = scratch / f"{name}.o"
    run([
        "clang", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-target", "bpf",
        f"-I/usr/include/{platform.machine()}-linux-gnu", *(f"-D{key}={value}" for key, value in defined.items()),
        "-c", SOURCES / f"{name}.bpf.c", "-o", file,
    ])  # fmt: skip
    return file
