"""Worker processes are for Linux; an engine that no interpreter here can run is left out, but not in CI."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_interpreters import world

from replicate.errors import EngineUnavailableError
from replicate.processes.interpreters import find_interpreter

__all__ = ["children", "is_running", "needs_wasmer", "process_tools", "wait_until", "wasmer", "world"]

if sys.platform != "linux":
    collect_ignore_glob = ["test_*.py"]


def _why_not_wasmer() -> str | None:
    try:
        find_interpreter("wasmer")
    except EngineUnavailableError as error:
        return None if os.environ.get("CI") else f"no interpreter for wasmer: {error}"
    return None


_REASON = _why_not_wasmer()
needs_wasmer = pytest.mark.skipif(_REASON is not None, reason=_REASON or "")


@pytest.fixture
def wasmer() -> str:
    """Give wasmer's name if its workers can be run."""
    if _REASON is not None:
        pytest.skip(_REASON)
    return "wasmer"


def children(process: int | None = None) -> set[int]:
    """List the worker processes that a process has started."""
    found = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                command = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if parent == (process or os.getpid()) and b"boot.py" in command:
                found.add(int(folder.name))
    return found


def is_running(process: int) -> bool:
    """Tell whether a process is there and hasn't ended."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def wait_until(condition: Callable[[], bool], *, seconds: float = 60.0) -> None:
    """Wait for something to become true; machines may be slow."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it didn't come true"
        time.sleep(0.005)


@pytest.fixture
def process_tools() -> tuple[Callable[..., set[int]], Callable[[int], bool], Callable[..., None]]:
    """Give `children`, `is_running` and `wait_until`."""
    return children, is_running, wait_until
