"""The contract of a backend, for wasmer inside this process, and what only wasmer can get wrong.

Run by ``test_wasmer.py``, in a process of its own.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from replicate import HostFunction, HostTable, NotReplicableError, Pool, Trap, TrapCode, load_engine
from replicate.errors import UnsupportedError
from replicate.testing import EngineTests, SnapshotMachine, assert_engine_replicates
from replicate_wasmer import WasmerEngine

TABLE = """(module (table (export "t") 3 6 funcref) (elem (i32.const 0) $one) (elem (i32.const 2) $two)
  (func $one (export "one") (result i32) i32.const 1) (func $two (result i32) i32.const 2)
  (func (export "call") (param i32) (result i32) (call_indirect (result i32) (local.get 0))))"""


class TestWasmer(EngineTests):
    engine_name = "wasmer"


def test_random_modules_are_carried_and_over_wasmtime_and_back() -> None:
    assert_engine_replicates("wasmer", modules=52, carrier_engine="wasmtime")


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_two_thousand_modules_are_carried() -> None:
    assert_engine_replicates("wasmer", modules=2000, seed=30000, carrier_engine="wasmtime")


def test_snapshots_are_values() -> None:
    class Machine(SnapshotMachine):
        engine = "wasmer"

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=30, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def test_a_table_that_another_engines_host_wrote_is_carried_here_and_back() -> None:
    there = load_engine("wasmtime").compile(TABLE)
    here = load_engine("wasmer").compile(TABLE)
    with there.instantiate() as one, here.instantiate() as two, there.instantiate() as three:
        fresh = one.snapshot()
        assert two.snapshot() == fresh
        table = one.tables["t"]
        table[1] = table[2]
        table[0] = None
        table.grow(1)
        changed = one.snapshot()
        two.restore(changed)
        assert two.snapshot() == changed
        assert two.call("call", 1) == 2
        with pytest.raises(Trap):
            two.call("call", 0)
        three.restore(two.snapshot())
        assert three.call("call", 1) == 2
        two.restore(fresh)
        assert two.snapshot() == fresh
        assert two.call("call", 0) == 1


def test_a_module_whose_table_only_a_host_could_change_has_its_code_unchanged() -> None:
    engine = load_engine("wasmer")
    plan = engine.prepare(engine.wat_to_wasm(TABLE)).plan
    assert plan.helpers is not None
    assert plan.helpers.hand is not None
    assert plan.helpers.hand.identify == ()


def test_a_pool_on_one_thread_works() -> None:
    wat = """(module (memory 1) (func (export "put") (param i32) (i32.store (i32.const 0) (local.get 0)))
      (func (export "get") (result i32) (i32.load (i32.const 0))))"""
    with Pool.open(wat, engine="wasmer", replicas=2) as pool:
        for number in range(5):
            pool.write(lambda guest, number=number: guest.call("put", number))  # type: ignore[misc]
            assert [number] * 3 == [pool.read(lambda guest: guest.call("get")) for _ in range(3)]


def test_a_table_with_other_limits_than_the_modules_is_refused() -> None:
    module = load_engine("wasmer").compile('(module (import "m" "t" (table 1 9 funcref)))')
    module.instantiate({"m": {"t": HostTable(1, maximum=9)}}).close()
    with pytest.raises(UnsupportedError, match=r"m\.t"):
        module.instantiate({"m": {"t": HostTable(2, maximum=9)}})


def test_a_name_that_is_imported_twice_is_refused() -> None:
    module = load_engine("wasmer").compile('(module (import "m" "g" (global i32)) (import "m" "g" (global i64)))')
    with pytest.raises(UnsupportedError, match=r"m\.g twice"):
        module.instantiate({"m": {"g": 1}})


def test_an_error_of_the_hosts_that_looks_like_wasmers_stays_what_it_is() -> None:
    error = RuntimeError("RuntimeError: unreachable\n    at f (<module>[0]:0x46)")

    def fail() -> None:
        raise error

    wat = '(module (import "h" "f" (func $f)) (func (export "f") call $f))'
    with load_engine("wasmer").compile(wat).instantiate({"h": {"f": fail}}) as instance:
        with pytest.raises(RuntimeError) as caught:
            instance.call("f")
        assert caught.value is error


def test_calls_nested_too_deep_raise_what_python_raises() -> None:
    wat = '(module (import "h" "f" (func $f)) (func (export "f") call $f) (func (export "fine") (result i32) i32.const 1))'
    again = HostFunction(lambda guest: guest.call("f"), caller=True)
    with load_engine("wasmer").compile(wat).instantiate({"h": {"f": again}}) as instance:
        with pytest.raises(RecursionError):
            instance.call("f")
        assert instance.call("fine") == 1


def test_a_trap_knows_where_it_happened() -> None:
    wat = '(module (func $inner unreachable) (func $outer (export "f") call $inner))'
    with load_engine("wasmer").compile(wat).instantiate() as instance, pytest.raises(Trap) as caught:
        instance.call("f")
    assert caught.value.code is TrapCode.UNREACHABLE
    assert [(frame.function_index, frame.function_name) for frame in caught.value.frames] == [
        (0, "inner"),
        (1, "outer"),
    ]


def test_instances_that_are_forgotten_are_freed() -> None:
    """Python's collector can't look into what wasmer keeps, so a host function there must not keep its instance."""
    module = load_engine("wasmer").compile(
        '(module (import "h" "f" (func $f (result i32))) (memory 1) (func (export "f") (result i32) call $f))'
    )
    seen: list[weakref.ref[Any]] = []
    for _ in range(20):
        host = HostFunction(lambda guest: 1, caller=True)
        instance = module.instantiate({"h": {"f": host}})
        instance.local["self"] = instance
        assert instance.call("f") == 1
        seen.append(weakref.ref(instance))
    del instance
    gc.collect()
    assert [reference() for reference in seen] == [None] * 20


def test_what_can_not_be_carried_is_refused_with_its_reason() -> None:
    module = load_engine("wasmer").compile("(module (memory 1))")
    module.check_replicable()
    wat = "(module (memory 1 2 shared))"
    with pytest.raises((UnsupportedError, NotReplicableError), match="shared memories"):
        load_engine("wasmer").compile(load_engine("wasmtime").wat_to_wasm(wat))


BIG = (
    "(module (memory 1) " + " ".join(f'(func (export "f{at}") (result i32) i32.const {at})' for at in range(600)) + ")"
)


def test_compiled_code_is_kept_and_damage_to_it_does_no_harm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REPLICATE_CACHE_DIR", str(tmp_path))

    def use() -> Any:
        with WasmerEngine().compile(BIG).instantiate() as instance:
            return instance.call("f7")

    assert use() == 7
    (kept,) = (tmp_path / "compiled").glob("wasmer-*")
    content = kept.read_bytes()
    assert use() == 7
    kept.write_bytes(content[:100] + b"\xff" * 1000 + content[1100:])
    assert use() == 7
    (again,) = (tmp_path / "compiled").glob("wasmer-*")
    assert again.suffix in again.name
    assert again.read_bytes()[100:1100] != b"\xff" * 1000
    with WasmerEngine(cache=False).compile(BIG).instantiate() as instance:
        assert instance.call("f8") == 8


BOTH = """
import faulthandler
faulthandler.enable()
import replicate
wat = '(module (memory 1) (func $f (export "deep") call $f) (func (export "far") (drop (i32.load (i32.const -4)))))'
for name in ("wasmer", "wasmtime", "wasmer", "wasmtime"):
    with replicate.load_engine(name).compile(wat).instantiate() as instance:
        for export in ("deep", "far"):
            try:
                instance.call(export)
            except replicate.Trap as trap:
                print(trap.code.name)
"""


def test_both_engines_trap_in_one_process() -> None:
    done = subprocess.run([sys.executable, "-c", BOTH], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["STACK_OVERFLOW", "MEMORY_OUT_OF_BOUNDS"] * 4, done.stderr
