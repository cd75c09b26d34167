"""The contract of a backend, as tests: subclass `EngineTests` and set `engine_name`."""

from __future__ import annotations

import contextlib
import struct
import threading
import time
from typing import Any, ClassVar

import pytest

from replicate.errors import (
    ArgumentRangeError,
    ArgumentTypeError,
    ArityError,
    ComponentError,
    ConcurrentUseError,
    DeadHandleError,
    GuestExit,
    HostResultError,
    ImportTypeError,
    InvalidModuleError,
    MemoryAccessError,
    MissingExportError,
    MissingImportError,
    NotReplicableError,
    ReplicateError,
    SnapshotMismatchError,
    TableAccessError,
    ThreadBoundError,
    Trap,
    TrapCode,
    UnsupportedError,
)
from replicate.handles import Guest
from replicate.imports import Companion, HostFunction, HostGlobal, HostMemory, HostTable
from replicate.interfaces import Engine, EngineTraits, Instance
from replicate.limits import ResourceLimits
from replicate.registry import load_engine
from replicate.values import FuncRef

__all__ = ["EngineTests"]

NUMBERS = """(module
  (func (export "i32") (param i32) (result i32) local.get 0)
  (func (export "i64") (param i64) (result i64) local.get 0)
  (func (export "f32") (param f32) (result f32) local.get 0)
  (func (export "f64") (param f64) (result f64) local.get 0)
  (func (export "v128") (param v128) (result v128) local.get 0)
  (func (export "swap") (param i32 f64) (result f64 i32) local.get 1 local.get 0)
  (func (export "sum") (param i32 i64 f32 f64) (result f64)
    (f64.add (f64.add (f64.convert_i32_s (local.get 0)) (f64.convert_i64_s (local.get 1)))
             (f64.add (f64.promote_f32 (local.get 2)) (local.get 3))))
  (func (export "nothing")))"""

STATE = """(module
  (memory (export "memory") 1 4) (global $hidden (mut i32) (i32.const 7)) (global (export "shown") (mut i64) (i64.const 9))
  (global $f (mut f32) (f32.const 0)) (global $v (mut v128) (v128.const i64x2 1 2))
  (func (export "set") (param i32 i32) (i32.store (local.get 0) (local.get 1)) (global.set $hidden (local.get 1)))
  (func (export "get") (param i32) (result i32) (i32.load (local.get 0)))
  (func (export "hidden") (result i32) (global.get $hidden))
  (func (export "set_f") (param i32) (global.set $f (f32.reinterpret_i32 (local.get 0))))
  (func (export "f_bits") (result i32) (i32.reinterpret_f32 (global.get $f)))
  (func (export "set_v") (param i64) (global.set $v (i64x2.splat (local.get 0))))
  (func (export "v_low") (result i64) (i64x2.extract_lane 0 (global.get $v)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "pages") (result i32) (memory.size))
  (func (export "spoil") (i32.store (i32.const 0) (i32.const 99)) (global.set $hidden (i32.const 99)) unreachable))"""

TABLES = """(module
  (type $t (func (result i32))) (import "host" "ten" (func $ten (type $t)))
  (table $table (export "table") 2 8 funcref) (global $ref (mut funcref) (ref.null func))
  (elem (i32.const 0) $one)
  (elem declare func $one $two $ten)
  (elem $passive func $two $two)
  (func $one (export "one") (type $t) i32.const 1)
  (func $two (type $t) i32.const 2)
  (func (export "call") (param i32) (result i32) (call_indirect (type $t) (local.get 0)))
  (func (export "put_two") (param i32) (table.set $table (local.get 0) (ref.func $two)))
  (func (export "put_ten") (param i32) (table.set $table (local.get 0) (ref.func $ten)))
  (func (export "clear") (param i32) (table.set $table (local.get 0) (ref.null func)))
  (func (export "grow") (param i32) (result i32) (table.grow $table (ref.func $two) (local.get 0)))
  (func (export "size") (result i32) (table.size $table))
  (func (export "keep") (param i32) (global.set $ref (table.get $table (local.get 0))))
  (func (export "put_kept") (param i32) (table.set $table (local.get 0) (global.get $ref)))
  (func (export "fetch") (param i32) (result funcref) (table.get $table (local.get 0)))
  (func (export "init") (table.init $table $passive (i32.const 0) (i32.const 0) (i32.const 2)))
  (func (export "drop") (elem.drop $passive)))"""

HOST = """(module
  (import "host" "add" (func $add (param i32 i32) (result i32)))
  (import "host" "two" (func $two (result i64 f32)))
  (import "host" "note" (func $note (param f64)))
  (memory (export "memory") 1)
  (func (export "add") (param i32 i32) (result i32) (call $add (local.get 0) (local.get 1)))
  (func (export "two") (result i64 f32) (call $two))
  (func (export "note") (param f64) (call $note (local.get 0)))
  (func (export "plain") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2))))"""

TYPED = """(module
  (type $open (sub (func (result i32))))
  (type $narrow (sub $open (func (result i32))))
  (type $same (sub (func (result i32))))
  (type $other (func (param i64) (result i32)))
  (rec (type $grouped (sub (func (result i32)))) (type (struct)))
  (import "host" "pick" (func $pick (param i32) (result (ref null $open))))
  (import "host" "stranger" (func $stranger (type $other)))
  (table (export "table") 1 (ref null $open)) (global (export "global") (mut (ref null $open)) (ref.null $open))
  (elem declare func $stranger)
  (func $a (export "open") (type $open) i32.const 1)
  (func $b (export "narrow") (type $narrow) i32.const 2)
  (func $c (export "same") (type $same) i32.const 3)
  (func $d (export "other") (type $other) i32.const 4)
  (func $e (export "grouped") (type $grouped) i32.const 5)
  (table $all (export "all") funcref (elem $a $b $c $d $e $stranger))
  (func (export "call") (param (ref null $open)) (result i32) (call_ref $open (local.get 0)))
  (func (export "call_surely") (param i32 (ref $open)) (result i32) (call_ref $open (local.get 1)))
  (func (export "call_narrow") (param (ref null $narrow)) (result i32) (call_ref $narrow (local.get 0)))
  (func (export "call_picked") (param i32) (result i32) (call_ref $open (call $pick (local.get 0))))
  (func (export "any") (param funcref) (result i32) (ref.is_null (local.get 0)))
  (func (export "no_function") (param nullfuncref) (result i32) (ref.is_null (local.get 0)))
  (func (export "no_object") (param nullexternref) (result i32) (ref.is_null (local.get 0))))"""

DISGUISED = """(module (type $s (struct)) (import "host" "take" (func $take (param externref)))
  (global $g (export "g") (mut externref) (ref.null extern)) (table $t (export "t") 1 externref)
  (func $made (export "made") (result externref) (extern.convert_any (struct.new $s)))
  (func (export "number") (result externref) (extern.convert_any (ref.i31 (i32.const 5))))
  (func (export "give") (call $take (call $made)))
  (func (export "keep") (global.set $g (call $made)) (table.set $t (i32.const 0) (call $made))))"""

SPIN = """(module (func (export "spin") (param $n i64) (result i64) (local $x i64)
  (loop $l (local.set $x (i64.add (i64.mul (local.get $x) (i64.const 6364136223846793005)) (local.get $n)))
    (br_if $l (i64.ne (i64.const 0) (local.tee $n (i64.sub (local.get $n) (i64.const 1))))))
  (local.get $x)))"""

PROPOSALS = {
    "multi_memory": "(module (memory 1) (memory 1))",
    "memory64": "(module (memory i64 1))",
    "tail_calls": "(module (func $f return_call $f))",
    "exceptions": "(module (tag $t) (func (throw $t)))",
    "gc": "(module (type $s (struct (field i32))) (func (drop (struct.new_default $s))))",
    "extended_const": "(module (global i32 (i32.add (i32.const 1) (i32.const 2))))",
    "extern_elements": "(module (elem externref (ref.null extern)))",
    "relaxed_simd": "(module (func (param v128 v128) (result v128) (i8x16.relaxed_swizzle (local.get 0) (local.get 1))))",
}

# Valid modules that no trait speaks of.
BEYOND_TRAITS = {
    "legacy exceptions": b"\1\4\1\x60\0\0\3\2\1\0\x0a\x08\1\6\0\6\x40\x19\x0b\x0b",
    "custom descriptors": b"\1\x09\2\x5f\0\x60\1\x64\x62\0\0",  # a parameter that refers to an exact type
    "stack switching": b"\1\6\2\x60\0\0\x5d\0",
    "shared-everything threads": b"\1\4\1\x60\0\0\3\2\1\0\6\6\1\x7f\1\x41\0\x0b\x0a\x09\1\7\0\xfe\x4f\0\0\x1a\x0b",
}


def _host(**functions: Any) -> dict[str, dict[str, Any]]:
    given: dict[str, Any] = {"add": lambda a, b: a + b, "two": lambda: (1, 2.0), "note": lambda x: None}
    return {"host": {**given, **functions}}


class EngineTests:
    """Check a backend against `replicate.interfaces`, every trait included.

    ::

        class TestMine(EngineTests):
            engine_name = "mine"
    """

    engine_name: ClassVar[str]

    @pytest.fixture
    def engine(self) -> Engine:
        """Give the engine under test."""
        return load_engine(self.engine_name)

    @pytest.fixture
    def traits(self, engine: Engine) -> EngineTraits:
        """Give what the engine claims."""
        return engine.traits

    @staticmethod
    def make(engine: Engine, wat: str, imports: Any = None) -> Instance:
        """Compile and instantiate."""
        return engine.compile(wat).instantiate(imports)

    # -- calls ---------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("name", "value", "expected"),
        [
            ("i32", -1, -1),
            ("i32", 2**32 - 1, -1),
            ("i32", 2**31, -(2**31)),
            ("i32", True, 1),
            ("i64", -(2**63), -(2**63)),
            ("i64", 2**64 - 1, -1),
            ("f32", 1.5, 1.5),
            ("f32", 3, 3.0),
            ("f64", 0.1, 0.1),
            ("f64", float("-inf"), float("-inf")),
            ("v128", 2**127 + 5, 2**127 + 5),
            ("v128", bytes(range(16)), int.from_bytes(bytes(range(16)), "little")),
        ],
    )
    def test_a_number_crosses_both_ways(self, engine: Engine, name: str, value: Any, expected: Any) -> None:
        with self.make(engine, NUMBERS) as instance:
            assert expected == instance.call(name, value)

    def test_several_results_come_as_a_tuple_and_none_as_none(self, engine: Engine) -> None:
        with self.make(engine, NUMBERS) as instance:
            assert (2.5, 7) == instance.call("swap", 7, 2.5)
            assert instance.call("nothing") is None
            assert instance.call("sum", 1, 2, 3.0, 4.0) == 10.0

    @pytest.mark.parametrize(
        ("name", "args", "error"),
        [
            ("i32", (), ArityError),
            ("i32", (1, 2), ArityError),
            ("nothing", (1,), ArityError),
            ("i32", ("1",), ArgumentTypeError),
            ("i32", (1.0,), ArgumentTypeError),
            ("i32", (None,), ArgumentTypeError),
            ("f64", ("1",), ArgumentTypeError),
            ("i32", (2**32,), ArgumentRangeError),
            ("i32", (-(2**31) - 1,), ArgumentRangeError),
            ("i64", (2**64,), ArgumentRangeError),
            ("f32", (1e39,), ArgumentRangeError),
            ("v128", (b"short",), ArgumentRangeError),
            ("v128", (2**128,), ArgumentRangeError),
        ],
    )
    def test_a_wrong_argument_is_refused_before_the_call(
        self, engine: Engine, name: str, args: Any, error: Any
    ) -> None:
        with self.make(engine, NUMBERS) as instance:
            with pytest.raises(error, match=name):
                instance.call(name, *args)
            assert instance.call("i32", 5) == 5

    @pytest.mark.parametrize(("name", "bits"), [("f32", 0x7FA00001), ("f64", 0x7FF4000000000001), ("i32", 2**32 - 1)])
    def test_bit_patterns_cross_unchanged(self, engine: Engine, name: str, bits: int) -> None:
        with self.make(engine, NUMBERS) as instance:
            assert bits == instance.call_bits(name, bits)

    def test_an_unknown_export_names_the_known_ones(self, engine: Engine) -> None:
        with self.make(engine, NUMBERS) as instance:
            with pytest.raises(MissingExportError, match="swap"):
                instance.call("nope")
            with pytest.raises(MissingExportError):
                instance.exports["nope"]
            assert set(instance.exports) == {"i32", "i64", "f32", "f64", "v128", "swap", "sum", "nothing"}
            assert instance.exports.i32(4) == 4  # type: ignore[attr-defined]

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            ("unreachable", TrapCode.UNREACHABLE),
            ("(drop (i32.div_s (i32.const 1) (i32.const 0)))", TrapCode.INTEGER_DIVISION_BY_ZERO),
            ("(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))", TrapCode.INTEGER_OVERFLOW),
            ("(drop (i32.trunc_f32_s (f32.const nan)))", TrapCode.BAD_CONVERSION_TO_INTEGER),
            ("(drop (i32.load (i32.const -4)))", TrapCode.MEMORY_OUT_OF_BOUNDS),
            ("(call_indirect (i32.const 9))", TrapCode.TABLE_OUT_OF_BOUNDS),
            ("(call_indirect (i32.const 0))", TrapCode.INDIRECT_CALL_TO_NULL),
            ("(call_indirect (type $other) (i32.const 1) (i32.const 1))", TrapCode.BAD_SIGNATURE),
            ("call $f", TrapCode.STACK_OVERFLOW),
        ],
    )
    def test_a_trap_says_why_and_the_instance_lives_on(self, engine: Engine, body: str, code: TrapCode) -> None:
        wat = f"""(module (type $other (func (param i32))) (memory 1) (table 2 funcref) (elem (i32.const 1) $f)
            (func $f (export "f") {body}) (func (export "fine") (result i32) i32.const 3))"""
        with self.make(engine, wat) as instance:
            for _ in range(2):
                with pytest.raises(Trap, match=code.value) as caught:
                    instance.call("f")
                assert caught.value.code is code
            assert instance.call("fine") == 3

    # -- companions ----------------------------------------------------------------------------------------------------

    def test_a_companions_function_works_on_the_guests_memory(self, engine: Engine, traits: EngineTraits) -> None:
        """Elsewhere its fallback is called, which is to do the same."""
        seen: list[int] = []

        def later(guest: Guest, at: int) -> int:
            seen.append(guest.memory.unpack("<i", at)[0])
            return 9

        def fallback(guest: Guest, at: int) -> int:
            return later(guest, at) if at else 5

        host = HostFunction(later, caller=True)
        companion = Companion(
            """(module (import "guest" "memory" (memory $guest 1)) (import "guest" "double" (func $double (param i32)))
            (import "host" "later" (func $later (param i32) (result i32))) (memory $own (export "own") 1)
            (func (export "note") (param $at i32) (result i32)
              (i32.store $own (i32.const 0) (i32.load $guest (local.get $at)))
              (call $double (local.get $at))
              (if (result i32) (local.get $at) (then (call $later (local.get $at))) (else (i32.const 5)))))""",
            {"later": host},
        )
        wat = """(module (import "h" "note" (func $note (param i32) (result i32)))
            (memory 1) (data (i32.const 0) "\\07") (data (i32.const 8) "\\08")
            (func (export "double") (param i32) (i32.store (local.get 0) (i32.mul (i32.const 2) (i32.load (local.get 0)))))
            (func (export "note") (param i32) (result i32) (call $note (local.get 0))))"""
        given = {"h": {"note": companion.function("note", HostFunction(fallback, caller=True))}}
        with self.make(engine, wat, given) as instance:
            assert (instance.call("note", 0), instance.call("note", 8)) == (5, 9)
            own = instance.companion_memory(companion, "own")
            assert (own is not None) == traits.companions
            if own is not None:
                assert (bytes(own[:4]), seen) == (b"\x08\0\0\0", [16])
                instance.restore(instance.snapshot())
                instance.rebuild()
                assert instance.call("note", 0) == 5
                again = instance.companion_memory(companion, "own")
                assert again is not None
                assert bytes(again[:4]) == b"\7\0\0\0"

    @pytest.mark.parametrize(
        ("source", "error"),
        [
            ('(module (func (export "other")))', ImportTypeError),
            ('(module (func (export "note") (param i64)))', ImportTypeError),
            (
                '(module (import "host" "x" (func)) (func (export "note") (param i32) (result i32) i32.const 1))',
                MissingImportError,
            ),
            (
                '(module (import "env" "x" (func)) (func (export "note") (param i32) (result i32) i32.const 1))',
                MissingImportError,
            ),
            (
                '(module (import "guest" "x" (func)) (func (export "note") (param i32) (result i32) i32.const 1))',
                MissingExportError,
            ),
            (
                '(module (import "guest" "f" (memory 1)) (func (export "note") (param i32) (result i32) i32.const 1))',
                ReplicateError,
            ),
            ("(module", InvalidModuleError),
        ],
    )
    def test_a_companion_that_doesnt_fit_is_refused(
        self, engine: Engine, traits: EngineTraits, source: str, error: type[ReplicateError]
    ) -> None:
        if not traits.companions:
            pytest.skip(f"engine {engine.name!r} doesn't claim companions")
        wat = """(module (import "h" "note" (func $note (param i32) (result i32)))
            (func (export "f") (result i32) (call $note (i32.const 1))))"""
        with pytest.raises(error):
            self.make(engine, wat, {"h": {"note": Companion(source).function("note", lambda at: at)}})

    def test_an_uncaught_exception_is_a_trap_that_says_so(self, engine: Engine, traits: EngineTraits) -> None:
        if not traits.exceptions:
            return
        with self.make(engine, '(module (tag $t) (func (export "f") (throw $t)))') as instance:
            for _ in range(2):
                with pytest.raises(Trap, match=r"^the guest trapped: uncaught exception\n") as caught:
                    instance.call("f")
                assert caught.value.code is TrapCode.UNCAUGHT_EXCEPTION

    # -- host functions ------------------------------------------------------------------------------------------------

    def test_host_functions_take_and_give_values(self, engine: Engine) -> None:
        noted: list[float] = []
        with self.make(engine, HOST, _host(note=noted.append)) as instance:
            assert instance.call("add", 2, 3) == 5
            assert instance.call("add", -1, 2**31 - 1) == 2**31 - 2
            assert instance.call("two") == (1, 2.0)
            instance.call("note", 0.5)
        assert noted == [0.5]

    def test_a_host_functions_exception_arrives_as_it_was(self, engine: Engine) -> None:
        class OurError(Exception):
            pass

        error = OurError("mine")

        def fail(a: int, b: int) -> int:
            raise error

        with self.make(engine, HOST, _host(add=fail)) as instance:
            with pytest.raises(OurError) as caught:
                instance.call("add", 1, 2)
            assert caught.value is error
            assert "fail" in [entry.name for entry in caught.traceback]
            assert instance.call("plain", 4) == 8

    def test_a_call_that_was_cut_short_is_noted(self, engine: Engine) -> None:
        """A pool restores the replica of a read in which one was; what never entered the guest, or a host function caught, isn't."""

        def add(guest: Any, a: int, b: int) -> int:
            if not a:
                raise LookupError("mine")
            with pytest.raises(LookupError):
                guest.call("add", 0, 0)
            return 7

        with self.make(engine, HOST, _host(add=HostFunction(add, caller=True))) as instance:
            with pytest.raises(ArityError):
                instance.call("add")
            assert (instance.call("add", 1, 0), instance.cut_short) == (7, None)
            for attempt in (instance.call, instance.call_bits):
                instance.cut_short = None
                with pytest.raises(LookupError):
                    attempt("add", 0, 0)
                assert instance.cut_short == "LookupError: mine"
        with self.make(engine, '(module (func (export "trap") unreachable))') as instance:
            with pytest.raises(Trap):
                instance.call("trap")
            assert instance.cut_short is not None
            assert instance.cut_short.startswith("Trap: ")

    def test_a_base_exception_crosses_the_guest_too(self, engine: Engine) -> None:
        def stop(a: int, b: int) -> int:
            raise KeyboardInterrupt

        with self.make(engine, HOST, _host(add=stop)) as instance, pytest.raises(KeyboardInterrupt):
            instance.call("add", 1, 2)

    def test_a_host_function_may_call_back_into_its_guest(self, engine: Engine) -> None:
        def add(guest: Any, a: int, b: int) -> int:
            return int(guest.call("plain", a)) + (guest.call("add", a - 1, b) if a else 0)

        with self.make(engine, HOST, _host(add=HostFunction(add, caller=True))) as instance:
            assert instance.call("add", 3, 0) == 12

    def test_a_host_function_may_catch_what_a_nested_call_raised(self, engine: Engine) -> None:
        def add(guest: Any, a: int, b: int) -> int:
            if a == 0:
                raise ValueError("inner")
            try:
                guest.call("add", 0, 0)
            except ValueError:
                return 77
            return 0

        with self.make(engine, HOST, _host(add=HostFunction(add, caller=True))) as instance:
            assert instance.call("add", 1, 0) == 77
            with pytest.raises(ValueError, match="inner"):
                instance.call("add", 0, 0)

    def test_a_host_function_reads_its_guests_memory(self, engine: Engine) -> None:
        def note(guest: Any, value: float) -> None:
            guest.memory.pack("<d", 8, value)
            guest.state["noted"] = value

        with self.make(engine, HOST, _host(note=HostFunction(note, caller=True))) as instance:
            instance.call("note", 2.5)
            assert instance.memory.unpack("<d", 8) == (2.5,)
            assert instance.state == {"noted": 2.5}

    @pytest.mark.parametrize("result", [None, "1", 1.5, 2**32, (1, 2), ()])
    def test_a_wrong_host_result_is_an_error(self, engine: Engine, result: Any) -> None:
        with (
            self.make(engine, HOST, _host(add=lambda a, b: result)) as instance,
            pytest.raises(HostResultError, match="add"),
        ):
            instance.call("add", 1, 2)

    def test_guest_exit_is_an_exception_with_the_status(self, engine: Engine) -> None:
        def leave(value: float) -> None:
            raise GuestExit(3)

        with self.make(engine, HOST, _host(note=leave)) as instance:
            with pytest.raises(GuestExit) as caught:
                instance.call("note", 0.0)
            assert caught.value.code == 3

    def test_each_thread_gets_its_own_exception(self, engine: Engine) -> None:
        module = engine.compile(HOST)
        wrong: list[object] = []

        def work(number: int) -> None:
            def fail(a: int, b: int) -> int:
                raise LookupError(number, a)

            with module.instantiate(_host(add=fail)) as instance:
                for turn in range(200):
                    try:
                        instance.call("add", turn, 0)
                        wrong.append("returned")
                    except LookupError as error:
                        if error.args != (number, turn):
                            wrong.append(error.args)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []

    # -- imports -------------------------------------------------------------------------------------------------------

    def test_missing_imports_are_all_named(self, engine: Engine) -> None:
        with pytest.raises(MissingImportError, match=r"host\.add.*host\.two.*host\.note"):
            self.make(engine, HOST)

    @pytest.mark.parametrize("value", [5, "x", HostFunction(print, params=("i64",)), HostFunction(print, results=())])
    def test_an_import_that_does_not_fit_is_named(self, engine: Engine, value: Any) -> None:
        with pytest.raises(ImportTypeError, match=r"host\.add"):
            self.make(engine, HOST, _host(add=value))

    def test_halves_of_64_bit_numbers_are_joined_for_a_legalised_function(self, engine: Engine) -> None:
        wat = """(module (import "h" "f" (func $f (param i32 i32 i32 i32) (result i32)))
          (func (export "f") (param i64) (result i32) (call $f (i32.const 5) (i32.wrap_i64 (local.get 0))
            (i32.wrap_i64 (i64.shr_u (local.get 0) (i64.const 32))) (i32.const -1))))"""
        given: list[tuple[Any, ...]] = []

        def note(*args: Any) -> int:
            given.append(args)
            return 3

        taken = HostFunction(note, params=("i32", "i64", "i32"), legalised=True)
        with self.make(engine, wat, {"h": {"f": taken}}) as instance:
            for value in (0, -1, 2**63 - 1, -(2**63), 0x1_8000_0000, -0x7FFF_FFFF):
                assert instance.call("f", value) == 3
                assert given.pop() == (5, value, -1)
        with_caller = HostFunction(note, params=("i32", "i64", "i32"), caller=True, legalised=True)
        with self.make(engine, wat, {"h": {"f": with_caller}}) as instance:
            instance.call("f", -2)
            assert given == [(instance.guest, 5, -2, -1)]
        for unfit in (
            HostFunction(note, params=("i32", "i64", "i32")),
            HostFunction(note, params=("i64",), legalised=True),
        ):
            with pytest.raises(ImportTypeError, match=r"h\.f"):
                self.make(engine, wat, {"h": {"f": unfit}})

    def test_memories_tables_and_globals_are_made_for_each_instance(self, engine: Engine) -> None:
        module = engine.compile("""(module
          (import "m" "memory" (memory 1)) (import "m" "table" (table 1 funcref)) (import "m" "g" (global $g (mut i32)))
          (import "m" "c" (global $c f64)) (func (export "set") (param i32) (i32.store (i32.const 0) (local.get 0))
          (global.set $g (local.get 0))) (func (export "get") (result i32 i32 f64)
          (i32.load (i32.const 0)) (global.get $g) (global.get $c)))""")
        imports: Any = {"m": {"g": 5, "c": HostGlobal(2.5)}}
        with module.instantiate(imports) as one, module.instantiate(imports) as two:
            one.call("set", 9)
            assert one.call("get") == (9, 9, 2.5)
            assert two.call("get") == (0, 5, 2.5)
            assert two.memory.size == 65536

    def test_resource_limits_are_kept_or_refused(self, engine: Engine, traits: EngineTraits) -> None:
        module = engine.compile(STATE)
        limits = ResourceLimits(memory_bytes=2 * 65536)
        if not traits.resource_limits:
            with pytest.raises(UnsupportedError, match="limits"):
                module.instantiate(limits=limits)
            return
        with module.instantiate(limits=limits) as instance:
            assert instance.call("grow", 1) == 1
            assert instance.call("grow", 1) == -1

    def test_a_given_memory_has_its_limits(self, engine: Engine) -> None:
        module = engine.compile(
            '(module (import "m" "memory" (memory 1 5)) (func (export "p") (result i32) memory.size))'
        )
        with module.instantiate({"m": {"memory": HostMemory(3, maximum=4)}}) as instance:
            assert instance.call("p") == 3
            assert instance.memory.grow(1) == 3
            with pytest.raises(MemoryAccessError):
                instance.memory.grow(1)
        with pytest.raises(ImportTypeError, match="minimum"):
            module.instantiate({"m": {"memory": HostMemory(0)}})
        with pytest.raises(ImportTypeError, match="maximum"):
            module.instantiate({"m": {"memory": HostMemory(3, maximum=9)}})
        with pytest.raises(ImportTypeError, match="HostMemory"):
            module.instantiate({"m": {"memory": HostTable(3)}})

    def test_a_global_or_table_of_null_can_be_imported(self, engine: Engine, traits: EngineTraits) -> None:
        kinds = ["funcref", "externref"]
        kinds += ["anyref", "i31ref", "nullref", "nullfuncref", "nullexternref", "(ref null $t)"] * traits.gc
        kinds += ["exnref", "nullexnref"] * (traits.exceptions and traits.gc)
        for kind in kinds:
            wat = f"""(module (type $t (func)) (import "m" "g" (global $g {kind})) (import "m" "t" (table $t 1 {kind}))
                (func (export "null") (result i32 i32)
                  (ref.is_null (global.get $g)) (ref.is_null (table.get $t (i32.const 0)))))"""
            if not traits.gc:
                wat = wat.replace("(type $t (func)) ", "")
            with self.make(engine, wat, {"m": {"g": None}}) as instance:
                assert instance.call("null") == (1, 1), kind

    def test_an_import_that_no_host_can_make_is_refused_by_name(self, engine: Engine, traits: EngineTraits) -> None:
        if not traits.gc:
            return
        table = '(module (type $t (func)) (import "m" "t" (table 1 (ref $t))))'
        for given in ({}, {"m": {"t": HostTable(2)}}):
            with pytest.raises(ImportTypeError, match=r"m\.t is a table of \(ref 0\), which can't be null"):
                self.make(engine, table, given)
        for kind in ("nullexternref", "nullfuncref", "anyref"):
            with pytest.raises(ImportTypeError, match=r"m\.g is a global .* only None"):
                self.make(engine, f'(module (import "m" "g" (global {kind})))', {"m": {"g": object()}})

    def test_tags_are_made_for_each_instance(self, engine: Engine, traits: EngineTraits) -> None:
        if not traits.exceptions:
            pytest.skip(f"engine {engine.name!r} doesn't claim exceptions")
        module = engine.compile("""(module
          (import "env" "a" (tag $a (param i32))) (import "env" "f" (func $f)) (import "env" "b" (tag $b (param i32)))
          (memory 1) (func $throw (call $f) (throw $a (i32.const 7)))
          (func (export "catch") (result i32)
            (block $a (result i32)
              (block $b (result i32)
                (try_table (catch $b $b) (catch $a $a) (call $throw)) (return (i32.const 1)))
              (return))
            (i32.store (i32.const 0) (i32.const 9)) (i32.add (i32.const 100))))""")
        imports: Any = {"env": {"f": lambda: None}}
        with module.instantiate(imports) as one, module.instantiate(imports) as two:
            assert one.call("catch") == 107
            two.restore(one.snapshot())
            assert (two.memory.unpack("<i", 0), two.call("catch")) == ((9,), 107)
        with pytest.raises(ImportTypeError, match=r"env\.a is a tag: leave it out"):
            module.instantiate({"env": {"f": lambda: None, "a": 1}})

    # -- memory --------------------------------------------------------------------------------------------------------

    def test_memory_is_read_written_and_grown(self, engine: Engine) -> None:
        with self.make(engine, STATE) as instance:
            memory = instance.memory
            assert memory.size == 65536
            memory.write(65532, b"abcd")
            assert instance.call("get", 65532) == struct.unpack("<i", b"abcd")[0]
            assert memory.grow(1) == 1
            assert memory.size == 131072
            assert memory.read(65532, 8) == b"abcd\0\0\0\0"
            assert instance.call("grow", 1) == 2
            assert memory.size == 196608
            memory.write(10, b"text\0")
            assert memory.read_cstring(10) == b"text"
            memory.write(196608, b"")
            assert memory.read(196608, 0) == b""

    @pytest.mark.parametrize(("offset", "length"), [(-1, 1), (65536, 1), (65535, 2), (2**40, 1), (0, -1), (0, 2**40)])
    def test_memory_outside_is_refused(self, engine: Engine, offset: int, length: int) -> None:
        with self.make(engine, STATE) as instance:
            with pytest.raises(MemoryAccessError, match="outside memory 0 of 65536 bytes"):
                instance.memory.read(offset, length)
            if length > 0 and length < 100:
                with pytest.raises(MemoryAccessError):
                    instance.memory.write(offset, b"x" * length)
            with pytest.raises(MemoryAccessError):
                instance.memory.grow(100)
            with pytest.raises(MemoryAccessError):
                instance.memory.grow(-1)

    def test_a_stable_memory_stays_where_it_is(self, engine: Engine, traits: EngineTraits) -> None:
        wat = '(module (memory (export "memory") 1))'
        with self.make(engine, wat) as instance:
            before = instance.memory_address(0)
            instance.memory.grow(2000)
            if traits.stable_memory:
                assert before == instance.memory_address(0)
                assert before % 4096 == 0
            assert instance.memory.read(2000 * 65536, 8) == bytes(8)

    # -- globals and tables --------------------------------------------------------------------------------------------

    def test_globals_keep_every_bit(self, engine: Engine) -> None:
        with self.make(engine, STATE) as instance:
            instance.call("set_f", 0x7FA00001)
            assert instance.global_bits(2) == 0x7FA00001
            instance.set_global_bits(2, 0xFFA00003)
            assert instance.call("f_bits") & 0xFFFFFFFF == 0xFFA00003
            instance.call("set_v", -2)
            assert instance.global_bits(3) == (2**64 - 2) << 64 | (2**64 - 2)
            instance.set_global_bits(3, 5)
            assert instance.call("v_low") == 5
            instance.globals["shown"].value = -3
            assert instance.globals["shown"].value == -3
            assert instance.globals[0].value == 7
            with pytest.raises(ArgumentTypeError):
                instance.globals["shown"].value = "x"
            with pytest.raises(MissingExportError):
                instance.globals["nope"]

    def test_a_constant_global_can_be_read_and_not_set(self, engine: Engine) -> None:
        with self.make(engine, '(module (global (export "c") i32 (i32.const 4)))') as instance:
            assert instance.globals["c"].value == 4
            with pytest.raises(ArgumentTypeError, match="constant"):
                instance.globals["c"].value = 5

    def test_references_pass_through_tables(self, engine: Engine, traits: EngineTraits) -> None:
        if not traits.reference_values:
            with self.make(engine, TABLES, {"host": {"ten": lambda: 10}}) as instance, pytest.raises(UnsupportedError):
                instance.call("fetch", 0)
            return
        with self.make(engine, TABLES, {"host": {"ten": lambda: 10}}) as instance:
            function = instance.call("fetch", 0)
            assert isinstance(function, FuncRef)
            assert function() == 1
            assert instance.call("fetch", 1) is None
            table = instance.tables["table"]
            assert len(table) == 2
            table[1] = function
            assert instance.call("call", 1) == 1
            instance.call("put_ten", 0)
            ten = table[0]
            assert ten() == 10
            table[0] = None
            with pytest.raises(Trap, match="uninitialized"):
                instance.call("call", 0)
            assert table.grow(2) == 2
            with pytest.raises(TableAccessError):
                table[4]
            with pytest.raises(TableAccessError):
                table.grow(100)
            with pytest.raises(ArgumentTypeError):
                table[0] = 5
        with pytest.raises(DeadHandleError):
            function()

    def test_host_objects_pass_as_externref(self, engine: Engine, traits: EngineTraits) -> None:
        if not traits.reference_values:
            return
        wat = """(module (import "h" "swap" (func $swap (param externref i32) (result i32 externref)))
            (global $kept (mut externref) (ref.null extern))
            (func (export "swap") (param externref i32) (result i32 externref) (call $swap (local.get 0) (local.get 1)))
            (func (export "keep") (param externref) (global.set $kept (local.get 0)))
            (func (export "kept") (result externref) (global.get $kept)))"""
        thing = object()
        with self.make(engine, wat, {"h": {"swap": lambda value, number: (number + 1, value)}}) as instance:
            assert instance.call("swap", thing, 4) == (5, thing)
            assert instance.call("swap", None, 4) == (5, None)
            instance.call("keep", thing)
            for _ in range(1000):
                instance.call("swap", object(), 1)
            assert instance.call("kept") is thing
            with pytest.raises(NotReplicableError, match="externref"):
                instance.snapshot()
            instance.call("keep", None)
            instance.snapshot()

    def test_references_are_refused_where_they_cannot_pass(self, engine: Engine, traits: EngineTraits) -> None:
        if traits.reference_values:
            return
        taking = '(module (func (export "f") (param externref i32) (result i32) local.get 1))'
        with self.make(engine, taking) as instance:
            for attempt in (instance.call, instance.call_bits):
                with pytest.raises(UnsupportedError, match="externref"):
                    attempt("f", None, 1)
        asking = '(module (import "h" "f" (func (param funcref))))'
        with pytest.raises(UnsupportedError, match="funcref"):
            self.make(engine, asking, {"h": {"f": lambda reference: None}})
        with self.make(engine, TABLES, {"host": {"ten": lambda: 10}}) as instance:
            table = instance.tables["table"]
            assert len(table) == 2
            with pytest.raises(UnsupportedError, match="element 0 of table 0"):
                table[0]
            with pytest.raises(UnsupportedError, match="element 0 of table 0"):
                table[0] = None
            with pytest.raises(UnsupportedError, match="global 0"):
                instance.globals[0].value = None
            assert instance.call("call", 0) == 1

    def test_a_table_is_grown_from_outside(self, engine: Engine) -> None:
        wat = """(module (table (export "t") 2 5 funcref) (elem (i32.const 1) $f) (func $f (result i32) i32.const 5)
            (func (export "size") (result i32) table.size 0)
            (func (export "call") (param i32) (result i32) (call_indirect (result i32) (local.get 0))))"""
        module = engine.compile(wat)
        with module.instantiate() as one, module.instantiate() as two:
            fresh = one.snapshot()
            assert one.tables["t"].grow(2) == 2
            for elements in (2, -1, 2**40):
                with pytest.raises(TableAccessError):
                    one.tables["t"].grow(elements)
            assert (one.call("size"), len(one.tables["t"]), one.call("call", 1)) == (4, 4, 5)
            two.restore(one.snapshot())
            assert (two.call("size"), two.call("call", 1)) == (4, 5)
            assert two.snapshot() == one.snapshot() != fresh
            two.restore(fresh)
            assert two.call("size") == 2

    def test_references_can_be_imported_as_null(self, engine: Engine) -> None:
        wat = """(module (import "h" "f" (global $f (mut funcref))) (import "h" "e" (global $e externref))
            (import "h" "t" (table $t 1 4 funcref)) (table $own 2 funcref)
            (func $one (result i32) i32.const 1) (elem declare func $one)
            (func (export "nulls") (result i32) (i32.add (ref.is_null (global.get $f)) (ref.is_null (global.get $e))))
            (func (export "keep") (global.set $f (ref.func $one)) (table.set $own (i32.const 1) (ref.func $one)))
            (func (export "use") (result i32) (table.set $t (i32.const 0) (global.get $f))
                (i32.add (call_indirect $t (result i32) (i32.const 0)) (call_indirect $own (result i32) (i32.const 1)))))"""
        module = engine.compile(wat)
        imports: Any = {"h": {"f": None, "e": None}}
        with module.instantiate(imports) as one, module.instantiate(imports) as two:
            assert one.call("nulls") == 2
            one.call("keep")
            assert (one.call("nulls"), two.call("nulls")) == (1, 2)
            assert one.call("use") == 2
            two.restore(one.snapshot())
            assert two.call("use") == 2

    @pytest.mark.parametrize(
        ("name", "fits"),
        [("open", 1), ("narrow", 2), ("same", 3), ("other", 0), ("grouped", 0), ("stranger", 0)],
    )
    def test_a_typed_function_reference_takes_functions_of_its_type_only(
        self, engine: Engine, traits: EngineTraits, name: str, fits: int
    ) -> None:
        if not (traits.reference_values and traits.gc):
            return
        given: list[FuncRef] = []
        imports = {"host": {"pick": lambda number: given[number], "stranger": lambda number: 6}}
        with self.make(engine, TYPED, imports) as instance:
            index = ["open", "narrow", "same", "other", "grouped", "stranger"].index(name)
            function = instance.tables["all"][index]
            given.append(function)
            uses: list[tuple[type[Exception], Any]] = [
                (ArgumentTypeError, lambda: instance.call("call", function)),
                (ArgumentTypeError, lambda: instance.call("call_surely", 0, function)),
                (HostResultError, lambda: instance.call("call_picked", 0)),
            ]
            for error, use in uses:
                if fits:
                    assert fits == use()
                else:
                    with pytest.raises(error, match=r"type 0, .* function \d+ of type \d"):
                        use()
            if fits:
                instance.tables["table"][0] = instance.globals["global"].value = function
                assert instance.tables["table"][0].index == function.index
            else:
                with pytest.raises(ArgumentTypeError, match="type 0"):
                    instance.tables["table"][0] = function
                with pytest.raises(ArgumentTypeError, match="type 0"):
                    instance.globals["global"].value = function
            if name == "narrow":
                assert instance.call("call_narrow", function) == 2
            else:
                with pytest.raises(ArgumentTypeError, match="type 1"):
                    instance.call("call_narrow", function)
            assert instance.call("any", function) == 0

    def test_a_function_of_unknown_type_goes_only_where_any_function_may(
        self, engine: Engine, traits: EngineTraits
    ) -> None:
        if not (traits.reference_values and traits.gc and traits.companions):
            return
        wat = """(module (type $t (func (result i32))) (import "host" "make" (func $make (result funcref)))
            (func (export "make") (result funcref) (call $make))
            (func (export "any") (param funcref) (result i32) (ref.is_null (local.get 0)))
            (func (export "call") (param (ref null $t)) (result i32) (call_ref $t (local.get 0))))"""
        strange = Companion("""(module (type $t (func (result i32))) (elem declare func $f) (func $f (type $t) i32.const 1)
            (func (export "make") (result funcref) (ref.func $f)))""")
        with self.make(engine, wat, {"host": {"make": strange.function("make", lambda: None)}}) as instance:
            function = instance.call("make")
            assert function.index is None
            assert instance.call("any", function) == 0
            with pytest.raises(ArgumentTypeError, match="isn't the module's own"):
                instance.call("call", function)

    def test_a_reference_that_is_always_null_takes_nothing_else(self, engine: Engine, traits: EngineTraits) -> None:
        if not (traits.reference_values and traits.gc):
            return
        imports = {"host": {"pick": lambda number: None, "stranger": lambda number: 6}}
        with self.make(engine, TYPED, imports) as instance:
            assert (instance.call("no_function", None), instance.call("no_object", None)) == (1, 1)
            with pytest.raises(ArgumentTypeError, match="nullfuncref"):
                instance.call("no_function", instance.tables["all"][0])
            with pytest.raises(ArgumentTypeError, match="nullexternref"):
                instance.call("no_object", object())
            with pytest.raises(ArgumentTypeError, match="null"):
                instance.call("call_surely", 0, None)

    def test_an_object_disguised_as_a_hosts_does_not_leave_the_guest(
        self, engine: Engine, traits: EngineTraits
    ) -> None:
        if not (traits.reference_values and traits.gc):
            return
        taken: list[object] = []
        with self.make(engine, DISGUISED, {"host": {"take": taken.append}}) as instance:
            assert instance.globals["g"].value is None
            instance.snapshot()
            instance.call("keep")
            uses: list[Any] = [
                lambda: instance.call("made"),
                lambda: instance.call("number"),
                lambda: instance.call("give"),
                lambda: instance.globals["g"].value,
                lambda: instance.tables["t"][0],
            ]
            for use in uses:
                with pytest.raises(HostResultError, match="externref"):
                    use()
            assert taken == []
            with pytest.raises(NotReplicableError, match="disguised"):
                instance.snapshot()

    # -- whole state ---------------------------------------------------------------------------------------------------

    def test_the_start_function_runs_when_instantiating_and_only_then(self, engine: Engine) -> None:
        calls: list[int] = []
        module = engine.compile("""(module (import "h" "f" (func $f)) (global $n (mut i32) (i32.const 0))
            (func $start (call $f) (global.set $n (i32.add (global.get $n) (i32.const 1)))) (start $start)
            (func (export "n") (result i32) (global.get $n)))""")
        imports = {"h": {"f": lambda: calls.append(1)}}
        with module.instantiate(imports) as instance:
            assert (instance.call("n"), len(calls)) == (1, 1)
            snapshot = instance.snapshot()
            with module.create(module.link(imports)) as other:
                assert other.call("n") == 0
                other.restore(snapshot)
                assert (other.call("n"), len(calls)) == (1, 1)

    def test_a_snapshot_holds_memory_globals_and_size(self, engine: Engine) -> None:
        module = engine.compile(STATE)
        with module.instantiate() as one, module.instantiate() as two:
            one.call("set", 100, 5)
            one.call("set_f", 0x7FA00001)
            one.call("grow", 1)
            snapshot = one.snapshot()
            two.call("set", 200, 8)
            two.restore(snapshot)
            assert two.snapshot() == snapshot
            assert (two.call("get", 100), two.call("get", 200), two.call("hidden")) == (5, 0, 5)
            assert (two.call("pages"), two.call("f_bits")) == (2, 0x7FA00001)
            with pytest.raises(Trap):
                one.call("spoil")
            one.call("grow", 2)
            assert one.snapshot() != snapshot
            one.restore(snapshot)
            assert one.snapshot() == snapshot
            assert one.call("pages") == 2

    def test_handles_survive_a_restore_that_shrinks(self, engine: Engine) -> None:
        with self.make(engine, STATE) as instance:
            small = instance.snapshot()
            memory, put = instance.memory, instance.exports["set"]
            instance.call("grow", 2)
            instance.restore(small)
            assert memory.size == 65536
            put(4, 6)
            assert instance.call("get", 4) == 6

    def test_a_snapshot_holds_tables_references_and_segments(self, engine: Engine, traits: EngineTraits) -> None:
        module = engine.compile(TABLES)
        imports = {"host": {"ten": lambda: 10}}
        with module.instantiate(imports) as one, module.instantiate(imports) as two:
            fresh = one.snapshot()
            one.call("put_ten", 1)
            one.call("keep", 0)
            one.call("clear", 0)
            one.call("grow", 1)
            one.call("drop")
            snapshot = one.snapshot()
            two.restore(snapshot)
            assert two.snapshot() == snapshot
            assert (two.call("call", 1), two.call("call", 2), two.call("size")) == (10, 2, 3)
            with pytest.raises(Trap, match="uninitialized"):
                two.call("call", 0)
            two.call("put_kept", 0)
            assert two.call("call", 0) == 1
            with pytest.raises(Trap):
                two.call("init")
            two.restore(fresh)
            assert two.snapshot() == fresh
            two.call("init")
            assert two.call("call", 1) == 2

    def test_a_table_that_only_the_host_wrote_is_carried(self, engine: Engine, traits: EngineTraits) -> None:
        if not traits.reference_values:
            return
        wat = """(module (table (export "t") 2 funcref) (func (export "f") (result i32) i32.const 5) (elem (i32.const 0) 0)
            (func (export "call") (param i32) (result i32) (call_indirect (result i32) (local.get 0))))"""
        module = engine.compile(wat)
        with module.instantiate() as one, module.instantiate() as two:
            fresh = one.snapshot()
            one.tables["t"][1] = one.tables["t"][0]
            two.restore(one.snapshot())
            assert two.call("call", 1) == 5
            two.restore(fresh)
            assert two.tables["t"][1] is None

    def test_a_snapshot_of_another_module_is_refused(self, engine: Engine) -> None:
        with self.make(engine, STATE) as one, self.make(engine, NUMBERS) as two:
            with pytest.raises(SnapshotMismatchError, match="another module"):
                two.restore(one.snapshot())

    def test_a_table_that_holds_no_nulls_grows_again(self, engine: Engine, traits: EngineTraits) -> None:
        if not traits.gc:
            pytest.skip(f"engine {engine.name!r} doesn't claim gc, and typed function references with it")
        wat = """(module (type $t (func (result i32))) (memory 1)
            (func $a (type $t) i32.const 1) (func $b (type $t) i32.const 2) (elem declare func $b)
            (table $n 2 20 (ref $t) (ref.func $a)) (export "n" (table $n))
            (func (export "grow") (i32.store (i32.const 0) (i32.const 7))
              (drop (table.grow $n (ref.func $b) (i32.const 3))))
            (func (export "call") (param i32) (result i32) (call_indirect $n (type $t) (local.get 0))))"""
        with self.make(engine, wat) as one, self.make(engine, wat) as two:
            one.call("grow")
            two.restore(one.snapshot())
            assert [two.call("call", at) for at in range(5)] == [1, 1, 2, 2, 2]
            assert two.snapshot() == one.snapshot()
            with pytest.raises(TableAccessError, match="can't grow by nulls"):
                two.tables["n"].grow(1)

    @pytest.mark.parametrize("part", ["memory", "table"])
    def test_a_snapshot_that_has_no_room_is_refused_and_changes_nothing(
        self, engine: Engine, traits: EngineTraits, part: str
    ) -> None:
        if part == "table" and not traits.reference_values:
            pytest.skip(f"engine {engine.name!r} doesn't claim reference_values, so no host grows its tables")
        module = engine.compile(
            """(module (import "h" "memory" (memory 1)) (import "h" "table" (table 1 funcref))
            (global $g (mut i32) (i32.const 0)) (func (export "set") (param i32) (global.set $g (local.get 0)))
            (func (export "get") (result i32) (global.get $g)))"""
        )
        make: Any = {"memory": HostMemory, "table": HostTable}[part]
        small, tight, large = (
            module.instantiate({"h": {part: limits}}) for limits in (make(1), make(1, maximum=1), make(3))
        )
        with small, tight, large:
            small.call("set", 4)
            with pytest.raises(SnapshotMismatchError, match=rf"{part} 0.* at least "):
                large.restore(small.snapshot())
            (small.memories if part == "memory" else small.tables)[0].grow(1)
            with pytest.raises(SnapshotMismatchError, match=rf"{part} 0.* more than "):
                tight.restore(small.snapshot())
            assert (large.call("get"), tight.call("get")) == (0, 0)

    # -- life and threads ----------------------------------------------------------------------------------------------

    def test_a_closed_instance_is_dead_and_says_so(self, engine: Engine) -> None:
        instance = self.make(engine, STATE)
        memory, put = instance.memory, instance.exports["set"]
        instance.call("set", 1, 1)
        bound = instance.bind("get")
        instance.snapshot()
        instance.close()
        instance.close()
        for use in (lambda: instance.call("get", 0), lambda: memory.size, lambda: put(1, 1), lambda: bound(0)):
            with pytest.raises(DeadHandleError):
                use()
        with pytest.raises(DeadHandleError):
            instance.snapshot()

    def test_another_thread_is_refused_where_instances_are_bound_to_one(
        self, engine: Engine, traits: EngineTraits
    ) -> None:
        if not traits.thread_bound:
            return
        module = engine.compile(STATE)
        with module.instantiate() as instance:
            snapshot, memory, shown = instance.snapshot(), instance.memory, instance.globals["shown"]
            put, bound = instance.exports["set"], instance.bind("set")
            uses: list[Any] = [
                lambda: instance.call("set", 0, 1),
                lambda: instance.call_bits("set", 0, 1),
                lambda: instance.call("get", 0),
                lambda: put(0, 1),
                lambda: bound(0, 1),
                lambda: memory.size,
                lambda: memory.read(0, 4),
                lambda: memory.write(0, b"x"),
                lambda: memory.grow(1),
                lambda: shown.value,
                lambda: setattr(shown, "value", 1),
                lambda: instance.global_bits(2),
                instance.snapshot,
                lambda: instance.restore(snapshot),
                instance.rebuild,
            ]
            seen: list[Any] = []

            def use_all() -> None:
                for use in uses:
                    try:
                        seen.append(use())
                    except BaseException as error:
                        seen.append(type(error))
                # What the thread makes itself it may use.
                with module.instantiate() as own:
                    own.restore(snapshot)
                    own.call("set", 4, 9)
                    seen.append(own.call("get", 4))

            thread = threading.Thread(target=use_all)
            thread.start()
            thread.join()
            assert seen == [ThreadBoundError] * len(uses) + [9]
            assert instance.snapshot() == snapshot

    def test_an_instance_can_be_closed_on_any_thread(self, engine: Engine) -> None:
        instance = self.make(engine, HOST, _host())
        assert instance.call("add", 1, 2) == 3
        thread = threading.Thread(target=instance.close)
        thread.start()
        thread.join()
        with pytest.raises(DeadHandleError):
            instance.call("add", 1, 2)

    def test_an_instance_outlives_the_thread_that_made_it(self, engine: Engine, traits: EngineTraits) -> None:
        made: list[Instance] = []
        thread = threading.Thread(target=lambda: made.append(self.make(engine, HOST, _host())))
        thread.start()
        thread.join()
        if traits.thread_bound:
            with pytest.raises(ThreadBoundError):
                made[0].call("add", 1, 2)
        else:
            assert made[0].call("add", 1, 2) == 3
        made.pop().close()

    def test_a_second_thread_is_kept_out(self, engine: Engine, traits: EngineTraits) -> None:
        if traits.thread_bound:
            return
        inside, let_go = threading.Event(), threading.Event()

        def note(value: float) -> None:
            inside.set()
            assert let_go.wait(30)

        with self.make(engine, HOST, _host(note=note)) as instance:
            thread = threading.Thread(target=instance.call, args=("note", 1.0))
            thread.start()
            try:
                assert inside.wait(30)
                with pytest.raises(ConcurrentUseError):
                    instance.call("plain", 1)
                with pytest.raises(ConcurrentUseError):
                    instance.call_bits("plain", 1)
                with pytest.raises(ConcurrentUseError):
                    instance.close()
            finally:
                let_go.set()
                thread.join()
            assert instance.call("plain", 1) == 2

    def test_an_instance_moves_between_threads(self, engine: Engine, traits: EngineTraits) -> None:
        if traits.thread_bound:
            return
        with self.make(engine, STATE) as instance:
            for number in range(5):
                thread = threading.Thread(target=instance.call, args=("set", 4 * number, number))
                thread.start()
                thread.join()
            assert [instance.call("get", 4 * number) for number in range(5)] == list(range(5))

    def test_calls_let_other_threads_run_or_not_as_claimed(self, engine: Engine, traits: EngineTraits) -> None:
        with self.make(engine, SPIN) as instance:
            instance.call("spin", 1)
            ticks: list[float] = []
            done = threading.Event()

            def tick() -> None:
                while not done.is_set():
                    ticks.append(time.monotonic())
                    time.sleep(0.001)

            thread = threading.Thread(target=tick)
            thread.start()
            while not ticks:
                time.sleep(0.001)
            began = time.monotonic()
            instance.call("spin", 300_000_000)
            ended = time.monotonic()
            done.set()
            thread.join()
            during = sum(began < tick < ended for tick in ticks)
            assert (during > 5) is traits.releases_gil

    # -- modules -------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "source",
        [
            b"",
            b"\0asm",
            b"not wasm at all",
            b"\0asm\1\0\0\0\1\x7f",
            "(module (func (result i32)))",
            "(module",
            "/no/such.wasm",
        ],
    )
    def test_what_is_no_module_is_refused(self, engine: Engine, source: Any) -> None:
        with pytest.raises(InvalidModuleError):
            engine.compile(source)

    @pytest.mark.parametrize(
        "wat",
        [
            "(module (func $f (result i32) i32.const 0) (start $f))",
            "(module (func $f (param i64 i64 i64 i64)) (start $f))",
            "(module (func $f (drop (ref.func $f))) (start $f))",
            '(module (memory 1) (data "abc") (func (export "f") data.drop 0 call 1))',
            '(module (memory 1) (data "abc") (func (export "f") data.drop 0 call 2))',
            '(module (memory 1) (data "abc") (func (export "f") data.drop 0 (block (type 1))))',
        ],
    )
    def test_what_instrumenting_would_make_valid_is_refused(self, engine: Engine, wat: str) -> None:
        """A start function that takes something, and code that names what isn't there until it's added."""
        wasm = engine.wat_to_wasm(wat)
        with pytest.raises(InvalidModuleError):
            engine.compile(wasm)

    def test_a_component_is_refused_by_name(self, engine: Engine) -> None:
        with pytest.raises(ComponentError, match="component"):
            engine.compile(b"\0asm\x0d\0\1\0")

    def test_a_module_is_read_from_a_file(self, engine: Engine, tmp_path: Any) -> None:
        (tmp_path / "m.wat").write_text(NUMBERS)
        (tmp_path / "m.wasm").write_bytes(engine.wat_to_wasm(NUMBERS))
        for path in (tmp_path / "m.wat", tmp_path / "m.wasm", str(tmp_path / "m.wasm")):
            with engine.compile(path).instantiate() as instance:
                assert instance.call("i32", 4) == 4

    @pytest.mark.parametrize("proposal", sorted(PROPOSALS))
    def test_each_proposal_works_or_is_refused_as_claimed(
        self, engine: Engine, traits: EngineTraits, proposal: str
    ) -> None:
        # The text is assembled by an engine that has every proposal, so that a refusal is the compiler's own.
        wasm = load_engine("wasmtime").wat_to_wasm(PROPOSALS[proposal])
        if getattr(traits, proposal):
            engine.compile(wasm).instantiate().close()
        else:
            with pytest.raises((UnsupportedError, InvalidModuleError)):
                engine.compile(wasm)

    @pytest.mark.parametrize("proposal", sorted(BEYOND_TRAITS))
    def test_a_valid_module_works_or_is_unsupported_and_never_invalid(self, engine: Engine, proposal: str) -> None:
        with contextlib.suppress(UnsupportedError):
            engine.compile(b"\0asm\1\0\0\0" + BEYOND_TRAITS[proposal]).instantiate().close()

    def test_a_name_is_any_unicode(self, engine: Engine) -> None:
        with self.make(
            engine, '(module (func (export "gr\\c3\\bc\\c3\\9f \\f0\\9f\\90\\8d") (result i32) i32.const 1))'
        ) as one:
            assert one.call("grüß 🐍") == 1
