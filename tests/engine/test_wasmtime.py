"""The contract of a backend, for wasmtime, and what only wasmtime can get wrong."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from replicate import Pool, load_engine, preparing
from replicate.errors import DeadHandleError, InstantiationError, InvalidModuleError, UnsupportedError
from replicate.imports import Companion
from replicate.testing import EngineTests
from replicate_wasmtime import WasmtimeEngine, faults
from replicate_wasmtime.module import WasmtimeModule


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
    assert not instance.gate.locked(), "whoever was interrupted must have left the instance"
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
    def stumble(wasm: bytes, **options: Any) -> None:
        raise InvalidModuleError("malformed module: no value type starts with 0x42, at byte 7 (0x7)")

    monkeypatch.setattr(preparing, "prepare", stumble)
    with pytest.raises(UnsupportedError, match="this library can't read it yet: .*0x42, at byte 7"):
        WasmtimeEngine(cache=False).compile("(module)")
    with pytest.raises(InvalidModuleError, match="type mismatch"):
        WasmtimeEngine(cache=False).compile("(module (func (result i32)))")


KEPT = """
import gc
import early, replicate, wasmtime
from replicate.imports import Companion, HostFunction
from replicate.testing import assert_replicable

companion = Companion('''(module (import "guest" "memory" (memory 1)) (import "host" "f" (func $f (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func (param i32 i32) (result i32)))
  (func (export "g") (param i32) (result i32) (call $f (local.get 0))))''', {"f": lambda n: n})
imports = {"h": {"f": lambda n: n, "g": companion.function("g", lambda n: n)}}
WAT = '''(module (import "h" "f" (func $f (param i32) (result i32))) (import "h" "g" (func $g (param i32) (result i32)))
  (memory (export "memory") 1) (global i32 (i32.const %d))
  (func (export "run") (param i32) (result i32) (call $g (call $f (local.get 0)))))'''
assert_replicable(WAT % 0, imports=imports, max_examples=5)
engine = replicate.load_engine("wasmtime")
instances = [engine.compile(WAT % number).instantiate(imports) for number in range(4)]
assert [instance.call("run", 7) for instance in instances] == [7] * 4
instances[1].itself = instances[1]
instances[2].module.itself = instances[2].module
[(_, code)] = instances[0].module.companions(instances[0].linkage)
early.kept = [wasmtime, code.native, instances[0].module.native, instances[3].module]
early.itself = early
gc.callbacks.append(early.hold)
gc.disable()
del instances
"""


def test_the_interpreters_exit_is_silent(tmp_path: Path) -> None:
    """Even if a module that was imported before wasmtime, and so is cleared after it, holds on to what wasmtime made."""
    (tmp_path / "early.py").write_text("def hold(*_): pass\n")
    (tmp_path / "script.py").write_text("import early\n" + KEPT)
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_closing_a_module_frees_its_companions_though_instances_keep_them() -> None:
    companion = Companion(
        """(module (import "host" "f" (func $f (result i32))) (func (export "g") (result i32) (call $f)))""", {"f": int}
    )
    wat = '(module (import "h" "g" (func (result i32))) (memory 1) (func (export "run") (result i32) (call 0)))'
    module = WasmtimeEngine(cache=False).compile(wat)
    assert isinstance(module, WasmtimeModule)
    linkage = module.link({"h": {"g": companion.function("g", int)}})
    with module.create(linkage) as instance:
        assert instance.call("run") == 0
        [(_, code)] = module.companions(linkage)
        instance.close()
        module.close()
    assert code.host_types == []
    for native in (code.native, code.relay, module.native):
        with pytest.raises(ValueError, match="closed"):
            native.ptr()


def test_an_instance_that_cant_be_replaced_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    module = load_engine("wasmtime").compile(
        '(module (memory 1) (func (export "grow") (drop (memory.grow (i32.const 1)))))'
    )
    instance = module.instantiate()
    before = instance.snapshot()
    instance.call("grow")

    def fill(self: object, cell: object) -> None:
        raise InstantiationError("no room")

    monkeypatch.setattr("replicate_wasmtime.instance.WasmtimeInstance._fill", fill)
    with pytest.raises(InstantiationError, match="no room"):
        instance.restore(before)
    for use in (lambda: instance.call("grow"), instance.snapshot, lambda: instance.memory_view(0)):
        with pytest.raises(DeadHandleError):
            use()


def test_what_is_dropped_without_being_closed_is_freed() -> None:
    """Whoever holds host functions knows their instance, and whatever those functions know."""
    wat = '(module (import "h" "f" (func)) (memory (export "memory") 1) (func (export "run") (call 0)))'

    class Known:
        def call(self) -> None:
            pass

    known = Known()
    pool = Pool.open(wat, replicas=2, imports={"h": {"f": known.call}})
    pool.write(lambda guest: guest.call("run"))
    instance = load_engine("wasmtime").compile(wat).instantiate({"h": {"f": known.call}})
    instance.call("run")
    kept = [weakref.ref(one) for one in (known, pool._core, instance, *pool._core.instances.values())]
    del known, pool, instance
    gc.collect()
    assert [ref() for ref in kept] == [None] * 5


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_thousand_dropped_pools_cost_nothing() -> None:
    wat = '(module (import "h" "f" (func)) (memory (export "memory") 20) (func (export "run") (call 0)))'

    def drop(count: int) -> tuple[int, int, int]:
        for _ in range(count):
            pool = Pool.open(wat, replicas=1, imports={"h": {"f": lambda: None}})
            pool.read(lambda guest: (guest.call("run"), guest.memory.write(0, bytes(1 << 16))))
            del pool
        gc.collect()
        with open("/proc/self/maps") as maps, open("/proc/self/statm") as statm:
            return len(os.listdir("/proc/self/fd")), len(maps.readlines()), int(statm.read().split()[1]) * 4096

    before = drop(100)
    after = drop(900)
    assert after[0] <= before[0]
    assert after[1] <= before[1] + 40
    assert after[2] <= before[2] + (16 << 20)
