"""The kit itself: what it draws, what it refuses, what it says."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
from typing import Any

import pytest
import wasmtime
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from replicate import NotReplicableError, Trap, load_engine
from replicate.binary import read_module
from replicate.errors import (
    InvalidModuleError,
    MissingExportError,
    MissingImportError,
    ReplicateError,
    ReplicateWarning,
    UnsupportedError,
)
from replicate.testing import (
    Call,
    Carrier,
    DivergenceError,
    Feature,
    Oracle,
    Subject,
    assert_engine_replicates,
    assert_replicable,
    callable_exports,
    calls,
    carrier_names,
    features_of,
    generate,
    modules,
    values,
)
from replicate.testing.carriers import FreshInstance
from replicate.testing.random_calls import generate_calls

from .bare import engine

COUNTER = """(module (global $n (mut i32) (i32.const 0))
  (func (export "add") (param i32) (result i32) (global.set $n (i32.add (global.get $n) (local.get 0))) (global.get $n))
  (func (export "put") (param f32) (global.set $n (i32.reinterpret_f32 (local.get 0))))
  (func (export "n") (result i32) (global.get $n))
  (func (export "spin") (loop br 0)))"""


class Forgetful(FreshInstance):
    """Carry everything but globals."""

    name = "forgetful"
    means = "an instance that forgets"

    def carry(self, past: Any) -> Any:
        self._move_to_fresh(self.instance.snapshot())
        for slot in self.instance.plan.globals:
            self.instance.set_global_bits(slot.index, 0)


def assembled(wat: str) -> bytes:
    return bytes(wasmtime.wat2wasm(wat))


# -- random modules --------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_modules_text_and_binary_are_the_same_module(data: st.DataObject) -> None:
    module = data.draw(modules() | st.integers(0, 10**6).map(generate))
    again = assembled(module.wat)

    ours, theirs = read_module(module.wasm), read_module(again)
    wasmtime.Module.validate(engine(), module.wasm)
    # The assembler leaves the count of data segments out where no code needs it.
    counted = {section.id for section in theirs.sections}
    contents = [
        [(section.id, wasm[section.start : section.end]) for section in info.sections if section.id in counted]
        for wasm, info in ((module.wasm, ours), (again, theirs))
    ]
    assert contents[0] == contents[1]
    assert "(module" in repr(module)


def test_a_seed_makes_one_module_and_its_choices_make_it_again() -> None:
    first, second = generate(7), generate(7)
    assert first.wasm == second.wasm == generate(first.choices).wasm
    assert generate(8).wasm != first.wasm
    assert len(generate([]).wasm) < len(first.wasm)


def test_seeds_make_modules_that_have_nothing_to_do_with_each_other() -> None:
    shapes = set()
    for seed in range(200):
        info = read_module(generate(seed).wasm)
        shapes.add((info.memories, info.tables, info.globals, len(info.data), len(info.elements)))
    assert len(shapes) > 180


def test_a_module_has_no_feature_that_was_not_allowed() -> None:
    for seed in range(60):
        module = generate(seed, features=Feature.NONE)
        info = read_module(module.wasm)
        assert len(info.memories) <= 1
        assert not any(memory.is_64 for memory in info.memories)
        assert not any(table.is_64 for table in info.tables)
        assert {memory.page_size for memory in info.memories} <= {65536}
        assert "return_call" not in module.wat
        for export in info.exports:
            if export.kind == "func":
                kind = info.function_type(export.index)
                assert all(value.is_number for value in (*kind.params, *kind.results))
        config = wasmtime.Config()
        config.wasm_multi_memory = config.wasm_memory64 = config.wasm_gc = config.wasm_tail_call = False
        config.wasm_function_references = False
        wasmtime.Module(wasmtime.Engine(config), module.wasm)


def test_an_engines_traits_say_which_features_it_gets() -> None:
    traits = load_engine("wasmtime").traits
    assert features_of(traits) == Feature.ALL & ~Feature.CUSTOM_PAGE_SIZES


# -- calls -----------------------------------------------------------------------------------------------------------------


def test_what_no_host_can_make_is_not_called() -> None:
    info = read_module(
        assembled("""(module (type $s (struct))
            (func (export "number") (param i32)) (func (export "null") (param funcref externref))
            (func (export "object") (param (ref null $s))) (func (export "never_null") (param (ref func)))
            (func (export "_start")) (func (export "_initialize")))""")
    )
    assert list(callable_exports(info)) == ["number", "null"]
    with pytest.raises(MissingExportError, match="'object'"):
        callable_exports(info, ["object"])
    assert list(callable_exports(read_module(assembled('(module (func (export "_start")))')))) == ["_start"]


@given(st.data())
@settings(max_examples=30)
def test_drawn_calls_fit_the_functions(data: st.DataObject) -> None:
    module = load_engine("wasmtime").compile(COUNTER)
    drawn = data.draw(calls(module.info, names=["add", "put", "n"], max_calls=10))
    with module.instantiate() as instance:
        for call in [*drawn, *generate_calls(random.Random(1), module.info, 0)]:
            instance.call_bits(call.name, *call.args)


@pytest.mark.parametrize(("text", "wanted"), [("f32", 0x7FA00001), ("i32", 2**32 - 1), ("f64", 1), ("v128", 1 << 127)])
def test_boundaries_are_drawn_often(text: str, wanted: int) -> None:
    kind = next(kind for kind in _kinds() if kind.text == text)
    found = []

    @settings(max_examples=300, database=None, derandomize=True)
    @given(values(kind))
    def draw(value: Any) -> None:
        found.append(value)

    draw()
    assert wanted in found
    assert max(found) < 1 << {"f32": 32, "i32": 32, "f64": 64, "v128": 128}[text]


def _kinds() -> Any:
    wat = '(module (func (export "f") (param i32 f32 f64 v128)))'
    return read_module(assembled(wat)).function_type(0).params


# -- the oracle and its verdict --------------------------------------------------------------------------------------------


def test_a_divergence_is_a_short_script_that_can_be_run_again() -> None:
    with pytest.raises(DivergenceError) as caught:
        assert_replicable(COUNTER, carriers=[Forgetful], skip=["spin"], seed=3)
    error = caught.value
    assert isinstance(error, AssertionError)
    assert isinstance(error, ReplicateError)
    assert len(error.divergence.calls) == 1
    text = str(error)
    assert "an instance that forgets" in text
    assert "global 0 ($n): " in text
    assert "Drawn with seed=3." in text
    assert f"assert_replicable(module, [{error.divergence.calls[0]!r}], carriers=['forgetful'], every=1)" in text
    with pytest.raises(DivergenceError, match="what the last call gave"):
        Oracle.of(Subject.of(COUNTER), carriers=[ForgetfulInSecret]).check([Call("add", 1), Call("n")])


class ForgetfulInSecret(Forgetful):
    """Show the state as it should be."""

    def observe(self) -> Any:
        return self.lone_state

    def call(self, call: Call) -> Any:
        return super().call(call)

    def carry(self, past: Any) -> Any:
        self.lone_state = super().observe()
        super().carry(past)


def test_a_given_script_is_run_and_shortened() -> None:
    script = [("n",), ("add", 5), ("n",), ("put", 0.0), ("n",), ("add", -1), ("n",)]
    assert_replicable(COUNTER, script)
    with pytest.raises(DivergenceError) as caught:
        assert_replicable(COUNTER, script, carriers=[Forgetful])
    assert caught.value.divergence.calls == (Call("add", 5),) or caught.value.divergence.calls == (
        Call("add", 2**32 - 1),
    )


def test_scripts_can_come_from_a_strategy_of_ones_own() -> None:
    seen = itertools.count()
    scripts = st.lists(st.tuples(st.just("add"), st.integers(-5, 5)), max_size=4)
    assert_replicable(COUNTER, scripts, max_examples=10, on_example=lambda: next(seen))
    assert next(seen) == 10


def test_carrying_now_and_then_is_enough_to_be_asked_for() -> None:
    with pytest.raises(DivergenceError):
        assert_replicable(COUNTER, [("add", 1), ("n",), ("n",)], every=3, carriers=[Forgetful])
    assert_replicable(COUNTER, [("add", 1), ("n",)], every=100, carriers=["fresh", "pool"])


def test_a_guest_that_is_not_deterministic_is_told_from_one_that_is_not_carried() -> None:
    wat = """(module (import "h" "f" (func $f (result i32))) (func (export "f") (result i32) call $f))"""
    numbers = itertools.count()
    with pytest.raises(DivergenceError, match="Two lone instances differ too"):
        assert_replicable(wat, imports={"h": {"f": lambda: next(numbers)}})

    def fresh() -> Any:
        own = itertools.count()
        return {"h": {"f": lambda: next(own)}}

    # What a host function remembers outside the guest's state isn't carried: a pool's replicas would share it.
    with pytest.raises(DivergenceError) as caught:
        assert_replicable(wat, imports=fresh, carriers=["pool"])
    assert "Two lone" not in str(caught.value)


def test_imports_that_are_left_out_get_stand_ins() -> None:
    assert_replicable(
        """(module (import "env" "number" (func $number (param i32) (result i64 f32)))
            (import "env" "memory" (memory 1 2)) (import "env" "table" (table 1 funcref))
            (import "env" "global" (global $g (mut f64))) (import "env" "reference" (global externref))
            (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
            (func (export "number") (result i64 f32) (call $number (i32.const 1)))
            (func (export "set") (param f64) (global.set $g (local.get 0)))
            (func (export "random") (result i32 i64) (call $random (i32.const 8) (i32.const 8)) (i64.load (i32.const 8))))""",
        max_examples=20,
    )
    with pytest.raises(MissingImportError, match=r"env\.f"):
        assert_replicable('(module (import "env" "f" (func (result (ref func)))) (func (export "g")))')


def test_functions_of_wasi_with_types_of_their_own_get_stand_ins() -> None:
    """Split numbers are WASI's; what else a module declares isn't."""
    assert_replicable(
        """(module (import "wasi_snapshot_preview1" "fd_seek" (func $seek (param i32 i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_tell" (func $tell (param f64) (result i64)))
            (import "wasi_snapshot_preview1" "fd_close" (global $close i32)) (memory (export "memory") 1)
            (func (export "seek") (param i32) (result i32)
              (call $seek (local.get 0) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0)))
            (func (export "tell") (result i64) (call $tell (f64.const 1)))
            (func (export "close") (result i32) (global.get $close)))""",
        max_examples=10,
    )


def test_an_export_that_does_not_return_is_left_out_with_a_warning() -> None:
    with pytest.warns(ReplicateWarning, match="spin ran for 0.05 s"):
        assert_replicable(COUNTER, max_examples=30, max_calls=5, timeout=0.05, seed=1)


def test_a_script_ends_where_the_stack_does() -> None:
    assert_replicable(
        """(module (global $depth (mut i32) (i32.const 0))
            (func $f (export "f") (result i32) (global.set $depth (i32.add (global.get $depth) (i32.const 1)))
              (i32.add (call $f) (i32.const 1))))""",
        max_examples=3,
    )


def test_a_state_that_cannot_be_carried_is_told_with_the_script_that_made_it() -> None:
    wat = """(module (import "h" "thing" (func $thing (result externref))) (global $g (mut externref) (ref.null extern))
        (func (export "keep") (global.set $g (call $thing))))"""
    assert_replicable(wat)
    with pytest.raises(DivergenceError, match=r"can't be carried(.|\n)*global 0") as caught:
        assert_replicable(wat, imports={"h": {"thing": lambda: object()}})
    assert caught.value.divergence.calls == (Call("keep"),)


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("(module (memory 1 1 shared))", NotReplicableError),
        ("(module", InvalidModuleError),
        ("/no/such/file.wasm", InvalidModuleError),
    ],
)
def test_what_cannot_be_tried_is_refused(source: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        assert_replicable(source)


def test_an_error_in_starting_is_raised_as_it_was() -> None:
    with pytest.raises(Trap, match="unreachable"):
        assert_replicable("(module (func $s unreachable) (start $s))")


def test_carriers_are_asked_for_by_name() -> None:
    module = load_engine("wasmtime").compile(COUNTER)
    assert_replicable(module, [("add", 1)], carriers=["same", "used", "fresh", "bytes", "pool", "pool-copy"])
    assert_replicable(COUNTER, [("add", 1)], carriers=["engine"], carrier_engine="wasmtime")
    assert "engine" in carrier_names()
    with pytest.raises(ValueError, match="no carrier is called 'nope'"):
        assert_replicable(COUNTER, carriers=["nope"])
    with pytest.raises(ValueError, match="needs a carrier_engine"):
        assert_replicable(COUNTER, carriers=["engine"])
    with pytest.raises(UnsupportedError, match="compiled module"):
        assert_replicable(module, carrier_engine="wasmtime")


def test_a_carrier_that_fails_is_a_divergence() -> None:
    class Broken(FreshInstance):
        name = "broken"

        def carry(self, past: Any) -> Any:
            raise OSError("no room")

    with pytest.raises(DivergenceError, match="carrying failed: OSError: no room"):
        assert_replicable(COUNTER, [("add", 1)], carriers=[Broken])
    assert issubclass(Broken, Carrier)


def test_a_random_module_that_diverges_is_made_shorter() -> None:
    with pytest.raises(DivergenceError) as caught:
        assert_engine_replicates(modules=5, calls=10, carriers=["fresh", ForgetfulGlobals], shrink_seconds=2)
    text = str(caught.value)
    assert "(module" in text
    assert "modules=1, seed=0" in text
    assert len(text) < 20_000


class ForgetfulGlobals(FreshInstance):
    """Carry everything but numbers in globals."""

    name = "forgetful globals"

    def carry(self, past: Any) -> Any:
        self._move_to_fresh(self.instance.snapshot())
        for slot in self.instance.plan.globals:
            if slot.type.value.is_number:
                self.instance.set_global_bits(slot.index, 0)


def test_nothing_else_of_the_library_needs_the_kits_extra() -> None:
    code = (
        "import sys; import replicate, replicate.wasi, replicate_wasmtime;"
        "sys.exit(any(name in sys.modules for name in ('hypothesis', 'pytest', 'replicate.testing')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
