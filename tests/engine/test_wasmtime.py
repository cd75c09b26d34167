"""The contract of a backend, for wasmtime, and what only wasmtime can get wrong."""

from __future__ import annotations

import subprocess
import sys

import pytest

from replicate.errors import UnsupportedError
from replicate.registry import load_engine
from replicate.testing import EngineTests


class TestWasmtime(EngineTests):
    engine_name = "wasmtime"


@pytest.mark.parametrize("memories", ["(memory 1) (memory 1 1 shared)", '(import "m" "m" (memory 1 1 shared))'])
def test_a_shared_memory_is_refused_in_words(memories: str) -> None:
    module = load_engine("wasmtime").compile(f"(module {memories})")
    with pytest.raises(UnsupportedError, match=r"memory \d is shared between threads"):
        module.instantiate()


INTERRUPTED = """
import random, signal, sys
import replicate

WAT = '''(module (import "h" "f" (func $f (param i32) (result i32)))
  (func (export "run") (param $n i32) (result i32) (local $x i32)
    (loop $l (local.set $x (i32.add (local.get $x) (call $f (local.get $n))))
      (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1))))) (local.get $x)))'''

class Stop(Exception): pass
def hit(*_): raise Stop
signal.signal(signal.SIGALRM, hit)
instance = replicate.load_engine("wasmtime").compile(WAT).instantiate({"h": {"f": lambda n: n}})
random.seed(int(sys.argv[1]))
stopped = 0
for _ in range(400):
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 2e-3))
        try:
            for _ in range(1000):
                assert instance.call("run", 30) == 465
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Stop:
        stopped += 1
        if instance.gate.locked():
            instance = replicate.load_engine("wasmtime").compile(WAT).instantiate({"h": {"f": lambda n: n}})
print("stopped", stopped)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no interval timers there")
@pytest.mark.parametrize("seed", ["1", "2"])
def test_exceptions_from_signal_handlers_never_reach_c(seed: str) -> None:
    """One that's raised at a callback's entry leaves garbage for wasmtime to free, unless the entry is deaf."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", INTERRUPTED, seed], capture_output=True, text=True, timeout=120
    )
    assert done.returncode in (0, 1), done.stderr
    assert "ctypes" not in done.stderr
    if done.returncode == 0:
        assert int(done.stdout.split()[1]) > 100
    else:  # the last alarm came between two lines of the script itself
        assert done.stderr.rstrip().endswith("Stop")
