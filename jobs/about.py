"""What the bits of a run depend on besides its events and its config."""

import importlib.metadata
import platform
from collections.abc import Mapping
from pathlib import Path


def environment() -> dict[str, str]:
    """Versions, and the kind of CPU."""
    packages = ("streamctr", "torch", "numpy", "numba", "pyarrow")
    about = {name: _version(name) for name in packages}
    return {**about, "python": platform.python_version(), "cpu": _cpu()}


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """In words, what is not as it was.

    >>> changes({"torch": "2.14.0"}, {"torch": "2.15.0"})
    ['torch 2.14.0 has become 2.15.0']
    """
    return [f"{name} {before.get(name)} has become {value}" for name, value in now.items() if before.get(name) != value]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _cpu() -> str:
    """The model name where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
