"""Describe the machine a benchmark runs on, and find out how much of it there really is just now."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from replicate import Engine, __version__
from replicate.configuration import usable_cores
from replicate.errors import ReplicateError
from replicate.memory_modes import why_not_copy_on_write

__all__ = ["Others", "describe_machine", "load_average", "proportional_bytes", "real_cores", "spin"]

_SPINNER = """
import sys, time
for line in sys.stdin:
    began, total = time.perf_counter(), 0
    for number in range(int(line)):
        total += number
    print(time.perf_counter() - began, flush=True)
"""
_SPINS = 1_000_000
_TRIES = 3
_FEWEST_TICKS = 20


def describe_machine(engine: Engine) -> dict[str, Any]:
    """Say what decides how fast anything runs here."""
    return {
        "cpu": _cpu(),
        "cores": usable_cores(),
        "memory_bytes": _memory_bytes(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "interpreter_lock": getattr(sys, "_is_gil_enabled", lambda: True)(),
        "engine": engine.version,
        "library": __version__,
        "copy_on_write": why_not_copy_on_write() or "yes",
        "nice": os.nice(0) if hasattr(os, "nice") else 0,
        "load_before": load_average(),
    }


def load_average() -> float:
    """Give how many programs have been running in the last minute on average, 0 where the system doesn't say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", "replace")
    except OSError:
        return ""


def _cpu() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def proportional_bytes() -> int | None:
    """Give this process's proportional set size in bytes: pages it shares with others count in part. Linux only."""
    found = re.search(r"^Pss:\s+(\d+) kB", _read("/proc/self/smaps_rollup"), re.MULTILINE)
    return int(found[1]) * 1024 if found else None


class Others:
    """Find out what share of the cores other programs took since this was made, as seen from inside this machine."""

    def __init__(self) -> None:
        self._own = _own_seconds()
        self._all = _ticks()

    def share(self) -> float:
        """Give the share, 0 to 1; 0 where the system doesn't say, or too little time has passed to tell."""
        busy, total = (now - then for now, then in zip(_ticks(), self._all, strict=True))
        if total < _FEWEST_TICKS:
            return 0.0
        own = (_own_seconds() - self._own) * os.sysconf("SC_CLK_TCK")
        return min(max((busy - own) / total, 0.0), 1.0)


def _own_seconds() -> float:
    """Give the processor time of this process and its children, worker processes for instance."""
    ended = os.times()
    return time.process_time() + ended.children_user + ended.children_system + _living_children_seconds()


def _living_children_seconds() -> float:
    ticks, own = 0, str(os.getpid())
    for path in Path("/proc").glob("[0-9]*/stat"):
        # After the name, which may hold anything: state, parent, and from the twelfth on user and system time.
        fields = _read(str(path)).rpartition(")")[2].split()
        if len(fields) > 13 and fields[1] == own:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK") if ticks else 0.0


def _ticks() -> tuple[int, int]:
    """Give how long all cores have been busy, time that another virtual machine took included, and how long there has been."""
    fields = _read("/proc/stat").partition("\n")[0].split()[1:9]
    if len(fields) < 8:
        return 0, 0
    ticks = list(map(int, fields))
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def spin(count: int) -> float:
    """Give the seconds that a plain Python loop takes: what is slower when this grows isn't slower by itself."""
    began, total = time.perf_counter(), 0
    for number in range(count):
        total += number
    return time.perf_counter() - began


def real_cores(count: int, *, spins: int = _SPINS) -> float:
    """Give how many cores' worth of work that many processes get done just now: a shared machine gives less than it says."""
    spinners = [
        subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _SPINNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(count)
    ]

    def ask(some: list[subprocess.Popen[str]], turns: int) -> float:
        for each in some:
            assert each.stdin is not None
            each.stdin.write(f"{turns}\n")
            each.stdin.flush()
        told = []
        for each in some:
            assert each.stdout is not None
            told.append(float(each.stdout.readline()))
        return max(told)

    try:
        ask(spinners, 1000)
        alone = min(ask(spinners[:1], spins) for _ in range(_TRIES))
        together = min(ask(spinners, spins) for _ in range(_TRIES))
    except (OSError, ValueError) as error:
        raise ReplicateError(f"can't measure how many cores there really are: {error}") from error
    finally:
        for each in spinners:
            each.kill()
            each.communicate()
    return count * alone / together
