"""wasmer inside a process: tested in one of its own.

Two runtimes in one process share its signal handlers and signal stacks. That works, see ``wasmer_alone.py``, but not after
hundreds of other tests have started, killed and forked threads with wasmtime's.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from replicate import load_engine
from replicate.errors import EngineUnavailableError


@pytest.mark.timeout(600)
def test_the_contract_holds_inside_a_process() -> None:
    try:
        load_engine("wasmer")
    except EngineUnavailableError as missing:
        # Where its wheels install, CI has to have it: a missing engine isn't a tested one.
        if os.environ.get("CI") and sys.version_info < (3, 11) and platform.machine() == "x86_64":
            raise
        pytest.skip(str(missing))
    tests = Path(__file__).with_name("wasmer_alone.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(tests)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=590)
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
