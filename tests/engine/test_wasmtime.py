"""The contract of a backend, for wasmtime, and what only wasmtime can get wrong."""

from __future__ import annotations

import subprocess
import sys

import pytest
import wasmtime

from replicate import load_engine
from replicate.errors import InvalidModuleError, UnsupportedError
from replicate.testing import EngineTests
from replicate_wasmtime import WasmtimeEngine, engine, faults


class TestWasmtime(EngineTests):
    engine_name = "wasmtime"


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


PROPOSALS_OFF = {
    "wasm_multi_value": "(module (func (result i32 i32) i32.const 1 i32.const 2))",
    "wasm_bulk_memory": '(module (memory 1) (data "x") (func (data.drop 0)))',
    "wasm_exceptions": "(module (tag))",
    "wasm_gc": "(module (type (struct)))",
    "wasm_memory64": "(module (memory i64 1))",
    "wasm_multi_memory": "(module (memory 1) (memory 1))",
    "wasm_relaxed_simd": "(module (func (param v128) (result v128) (i32x4.relaxed_trunc_f32x4_s (local.get 0))))",
    "wasm_stack_switching": "(module (type $f (func)) (type (cont $f)))",
    "wasm_tail_call": "(module (func $f (return_call $f)))",
    "wasm_wide_arithmetic": "(module (func (result i64 i64) (i64.mul_wide_u (i64.const 1) (i64.const 2))))",
    "wasm_custom_page_sizes": "(module (memory 1 (pagesize 1)))",
    "wasm_threads": "(module (memory 1 1 shared))",
}


@pytest.mark.parametrize("proposal", sorted(PROPOSALS_OFF))
def test_a_proposal_that_is_off_is_unsupported(proposal: str) -> None:
    config = wasmtime.Config()
    setattr(config, proposal, False)
    with pytest.raises(wasmtime.WasmtimeError) as caught:
        wasmtime.Module.validate(wasmtime.Engine(config), wasmtime.wat2wasm(PROPOSALS_OFF[proposal]))
    assert isinstance(faults.module_refusal(caught.value), UnsupportedError)


@pytest.mark.parametrize(
    "wat",
    [
        "(module (func (drop (i32.add (i64.const 1)))))",
        "(module (global i32 (i32.clz (i32.const 1))))",
        "(module (memory 65537))",
        '(module (func (export "not enabled")) (func (export "not enabled")))',
    ],
)
def test_what_no_proposal_makes_valid_is_invalid(wat: str) -> None:
    with pytest.raises(InvalidModuleError, match="isn't valid Wasm"):
        load_engine("wasmtime").compile(wat)


def test_legacy_exceptions_come_with_their_remedy() -> None:
    wasm = b"\0asm\1\0\0\0\1\4\1\x60\0\0\3\2\1\0\x0a\x08\1\6\0\6\x40\x19\x0b\x0b"
    with pytest.raises(UnsupportedError, match="wasm-opt .*--translate-to-exnref"):
        load_engine("wasmtime").compile(wasm)


@pytest.mark.parametrize(
    "content", [b"\1\5\1\x60\1\x67\0", b"\x0e\2\0\0", b"\1\4\1\x60\0\0\3\2\1\0\x0a\7\1\5\0\xfc\x30\1\0"]
)
def test_what_nobody_knows_may_be_of_a_newer_proposal(content: bytes) -> None:
    """A string type, a section of strings, a number of 16 bits."""
    with pytest.raises(InvalidModuleError, match="or of a proposal unknown to wasmtime"):
        load_engine("wasmtime").compile(b"\0asm\1\0\0\0" + content)


def test_what_only_the_reader_cant_read_isnt_called_invalid(monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(wasm: bytes) -> None:
        raise InvalidModuleError("malformed module: no value type starts with 0x42, at byte 7 (0x7)")

    monkeypatch.setattr(engine, "prepare", stumble)
    with pytest.raises(UnsupportedError, match="this library can't read it yet: .*0x42, at byte 7"):
        WasmtimeEngine(cache=False).compile("(module)")
    with pytest.raises(InvalidModuleError, match="type mismatch"):
        WasmtimeEngine(cache=False).compile("(module (func (result i32)))")
