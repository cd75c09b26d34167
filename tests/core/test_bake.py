"""`Snapshot.to_wasm`: a plain module that starts where the snapshot was taken."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from replicate import Instance, NotReplicableError, Snapshot, Trap, load_engine
from replicate.binary import read_module
from replicate.binary.module import describe
from replicate.errors import MissingExportError, SnapshotMismatchError
from replicate.testing import Call, GeneratedModule, Subject, calls, modules
from replicate.testing.outcomes import HostLog, Outcome, perform

ROOT = Path(__file__).resolve().parents[2]
ENGINE = load_engine()

EVERYTHING = r"""(module
  (type $number (func (result i32)))
  (type $host (func (param i32)))
  (import "env" "tell" (func $tell (type $host)))
  (import "env" "base" (global $base i32))
  (memory $shown (export "memory") 1 4)
  (memory $wide i64 1 3)
  (table $t (export "table") 3 9 funcref)
  (table $full 2 6 (ref null $number) (ref.func $one))
  (table $never 2 5 (ref $number) (ref.func $two))
  (table $fixed 2 2 funcref)
  (table $objects 1 3 externref)
  (global $i32 (mut i32) (i32.const 1))
  (global $i64 (mut i64) (i64.const 2))
  (global $f32 (mut f32) (f32.const 3))
  (global $f64 (mut f64) (f64.const 4))
  (global $v128 (mut v128) (v128.const i64x2 5 6))
  (global $f (mut funcref) (ref.func $three))
  (global $typed (mut (ref null $number)) (ref.null $number))
  (global $extern (mut externref) (ref.null extern))
  (global $constant i32 (global.get $base))
  (data (i32.const 4094) "across two pages")
  (data $passive "passive")
  (data (memory $wide) (i64.const 65528) "the end!")
  (elem (table $t) (i32.const 1) func $one $two)
  (elem (table $fixed) (i32.const 0) func $one $tell)
  (elem $spare func $two $one)
  (elem $typed_spare (ref null $number) (ref.func $two) (ref.null $number))
  (start $begin)
  (func $begin (global.set $i32 (i32.add (global.get $i32) (i32.const 100))))
  (func $one (type $number) (i32.const 1))
  (func $two (type $number) (i32.const 2))
  (func $three (type $number) (i32.const 3))
  (func $pick (param i32) (result funcref)
    (if (i32.eq (local.get 0) (i32.const 1)) (then (return (ref.func $one))))
    (if (i32.eq (local.get 0) (i32.const 2)) (then (return (ref.func $two))))
    (if (i32.eq (local.get 0) (i32.const 3)) (then (return (ref.func $tell))))
    (ref.null func))
  (func (export "poke") (param i32 i64) (i64.store (local.get 0) (local.get 1)))
  (func (export "peek") (param i32) (result i64) (i64.load (local.get 0)))
  (func (export "poke_wide") (param i64 i64) (i64.store $wide (local.get 0) (local.get 1)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "grow_wide") (param i64) (result i64) (memory.grow $wide (local.get 0)))
  (func (export "set") (param i32 i64 i32 i64 i64)
    (global.set $i32 (local.get 0)) (global.set $i64 (local.get 1))
    (global.set $f32 (f32.reinterpret_i32 (local.get 2))) (global.set $f64 (f64.reinterpret_i64 (local.get 3)))
    (global.set $v128 (i64x2.replace_lane 1 (i64x2.splat (local.get 3)) (local.get 4))))
  (func (export "get") (result i32 i64 i32 i64 i64)
    (global.get $i32) (global.get $i64) (i32.reinterpret_f32 (global.get $f32)) (i64.reinterpret_f64 (global.get $f64))
    (i64x2.extract_lane 1 (global.get $v128)))
  (func (export "set_f") (param i32) (global.set $f (call $pick (local.get 0))))
  (func (export "set_typed") (param i32)
    (global.set $typed (if (result (ref null $number)) (local.get 0) (then (ref.func $one)) (else (ref.null $number)))))
  (func (export "put") (param i32 i32) (table.set $t (local.get 0) (call $pick (local.get 1))))
  (func (export "extend") (param i32 i32) (result i32) (table.grow $t (call $pick (local.get 1)) (local.get 0)))
  (func (export "put_full") (param i32 i32)
    (table.set $full (local.get 0)
      (if (result (ref null $number)) (local.get 1) (then (ref.func $two)) (else (ref.null $number)))))
  (func (export "extend_full") (result i32) (table.grow $full (ref.null $number) (i32.const 1)))
  (func (export "put_never") (param i32) (table.set $never (local.get 0) (ref.func $one)))
  (func (export "extend_never") (result i32) (table.grow $never (ref.func $one) (i32.const 1)))
  (func (export "extend_objects") (result i32) (table.grow $objects (ref.null extern) (i32.const 1)))
  (func (export "call") (param i32) (result i32) (call_indirect $t (type $number) (local.get 0)))
  (func (export "call_full") (param i32) (result i32) (call_indirect $full (type $number) (local.get 0)))
  (func (export "call_never") (param i32) (result i32) (call_indirect $never (type $number) (local.get 0)))
  (func (export "tell") (call_indirect $fixed (type $host) (i32.const 7) (i32.const 1)))
  (func (export "use") (param i32 i32) (memory.init $passive (local.get 0) (i32.const 0) (local.get 1)))
  (func (export "drop") (data.drop $passive))
  (func (export "learn") (param i32 i32) (table.init $t $spare (local.get 0) (i32.const 0) (local.get 1)))
  (func (export "unlearn") (elem.drop $spare))
  (func (export "learn_typed") (param i32 i32) (table.init $full $typed_spare (local.get 0) (i32.const 0) (local.get 1)))
  (func (export "unlearn_typed") (elem.drop $typed_spare))
  (func (export "constant") (result i32) (global.get $constant)))"""

NOISY = {"env": {"tell": lambda value: None, "base": 40, "host": lambda value: value + 1, "tick": lambda value: None}}
EVERYTHING_WASM = ENGINE.wat_to_wasm(EVERYTHING)


@attrs.frozen
class Pair:
    """An instance, and one of the module that its state was baked into."""

    original: Instance
    baked: Instance
    log: HostLog
    wasm: bytes
    was_dropped: frozenset[tuple[str, int]]

    def check(self) -> None:
        one, two = self.original.snapshot(), self.baked.snapshot()
        assert one.memories == two.memories
        assert one.globals == two.globals
        assert one.tables == two.tables
        assert set(one.dropped) == self.was_dropped | set(two.dropped)

    def call(self, script: Sequence[Call]) -> None:
        for call in script:
            assert perform(self.original, call, self.log) == perform(self.baked, call, self.log)
            self.check()


def bake(subject: Subject, script: Sequence[Call]) -> Pair:
    assert subject.wasm is not None
    log = HostLog()
    original = subject.start(log)
    for call in script:
        perform(original, call, log)
    snapshot = original.snapshot()
    wasm = snapshot.to_wasm(subject.wasm, ignore_host_state=True)
    baked = Subject.of(wasm, imports=subject.make_imports).create(log)
    baked.run_start()
    baked.state.update(snapshot.state)
    pair = Pair(original, baked, log, wasm, frozenset(snapshot.dropped))
    pair.check()
    return pair


def plain(wasm: bytes, **imports: Any) -> dict[str, Any]:
    """Instantiate a module under the bare runtime, and give its exported functions."""
    store = wasmtime.Store()
    module = wasmtime.Module(store.engine, wasm)
    given = []
    for item in module.imports:
        kind = item.type
        if isinstance(kind, wasmtime.FuncType):
            given.append(wasmtime.Func(store, kind, imports[item.name or ""]))
        else:
            assert isinstance(kind, wasmtime.GlobalType)
            given.append(wasmtime.Global(store, kind, wasmtime.Val.i32(imports[item.name or ""])))
    exports = wasmtime.Instance(store, module, given).exports(store)

    def bound(name: str) -> Any:
        return lambda *args: exports[name](store, *args)  # type: ignore[operator]

    return {item.name: bound(item.name) for item in module.exports if isinstance(item.type, wasmtime.FuncType)}


EVERYTHING_SUBJECT = Subject.of(EVERYTHING_WASM, imports=NOISY)
EVERYTHING_CALLS = calls(EVERYTHING_SUBJECT.module.info, max_calls=12)


@settings(max_examples=60, deadline=None)
@given(EVERYTHING_CALLS, EVERYTHING_CALLS)
def test_a_baked_module_goes_on_as_the_instance_does(before: list[Call], after: list[Call]) -> None:
    pair = bake(EVERYTHING_SUBJECT, before)

    pair.call([*after, Call("get"), Call("constant"), Call("tell")])


@settings(max_examples=30, deadline=None)
@given(modules(), st.data())
def test_any_module_is_baked_or_refused_for_what_it_imports(module: GeneratedModule, data: st.DataObject) -> None:
    subject = Subject.of(module.wasm, imports=module.imports)
    script = calls(subject.module.info, max_calls=8)
    before, after = data.draw(script), data.draw(script)
    info, plan = subject.module.info, subject.module.plan
    imported = [slot.describe for slot in plan.memories if slot.index < info.imported_memories]
    imported += [slot.describe for slot in plan.globals if slot.index < info.imported_globals]
    imported += [slot.describe for slot in plan.tables if slot.is_state and slot.index < info.imported_tables]

    if imported:
        with pytest.raises(NotReplicableError) as refusal:
            bake(subject, before)
        assert imported == [finding.place for finding in refusal.value.findings]
    else:
        bake(subject, before).call([*after, *module.observers])


@pytest.mark.parametrize("name", ["hidden", "tables", "segments", "memories", "limits"])
def test_guests_in_text_are_baked(name: str) -> None:
    subject = Subject.of(ROOT / f"wasm/{name}.wat", imports=NOISY)
    skipped = {"loop", "scribble", "nag", "recurse", "eat_memory", "eat_table"}  # they don't return
    drawn = [export for export in subject.function_types() if export not in skipped]
    scripts = calls(subject.module.info, names=drawn, max_calls=8)

    @settings(max_examples=20, deadline=None)
    @given(scripts, scripts)
    def check(before: list[Call], after: list[Call]) -> None:
        bake(subject, before).call(after)

    check()


def test_everything_runs_under_the_bare_runtime_where_it_was_left() -> None:
    wasm = EVERYTHING_WASM
    with ENGINE.compile(wasm).instantiate({"env": {"tell": NOISY["env"]["tell"], "base": 40}}) as instance:
        for name, *args in [
            ("poke", 65528, -2),
            ("grow", 2),
            ("set", -1, -(1 << 63), 0x7FA00001, 0xFFF4 << 48, 9),
            ("put", 0, 2),
            ("extend", 2, 1),
            ("put_full", 0, 0),
            ("extend_full",),
            ("drop",),
            ("unlearn",),
        ]:
            instance.call(name, *args)
        wasm = instance.snapshot().to_wasm(wasm)
    told: list[int] = []

    exports = plain(wasm, tell=told.append, base=50)

    assert -2 == exports["peek"](65528)
    assert 3 == exports["grow"](1)
    assert -1 == exports["grow"](1)
    bits = [-1, -(1 << 63), 0x7FA00001, (0xFFF4 << 48) - (1 << 64), 9]
    assert bits == exports["get"]()
    assert [2, 1, 2, 1, 1] == [exports["call"](at) for at in range(5)]
    assert 5 == exports["extend"](1, 0)
    with pytest.raises(wasmtime.Trap, match="uninitialized"):
        exports["call_full"](0)
    assert 1 == exports["call_full"](1)
    with pytest.raises(wasmtime.Trap, match="uninitialized"):
        exports["call_full"](2)
    assert 2 == exports["call_never"](1)
    with pytest.raises(wasmtime.Trap, match="out of bounds"):
        exports["use"](0, 1)
    with pytest.raises(wasmtime.Trap, match="out of bounds"):
        exports["learn"](0, 1)
    exports["learn_typed"](0, 2)
    assert 2 == exports["call_full"](0)
    assert 50 == exports["constant"]()
    exports["tell"]()
    assert [7] == told


def test_a_baked_module_is_baked_again() -> None:
    pair = bake(EVERYTHING_SUBJECT, [Call("poke", 5000, 1), Call("drop"), Call("put", 1, 3)])
    pair.baked.call("poke", 5000, 0)
    pair.original.call("poke", 5000, 0)

    again = pair.baked.snapshot().to_wasm(pair.wasm)

    with ENGINE.compile(again).instantiate(EVERYTHING_SUBJECT.make_imports()) as twin:
        attrs.evolve(pair, baked=twin).call([Call("peek", 5000), Call("use", 0, 1), Call("call", 1)])


def test_kv_keeps_its_entries_and_need_not_be_initialised_again() -> None:
    wasm = (ROOT / "adapters/replicate_kv/kv.wasm").read_bytes()
    with ENGINE.compile(wasm).instantiate() as instance:
        for key in range(5000):
            instance.call("put", key, key * key)
        baked = instance.snapshot().to_wasm(wasm, without_exports=["_initialize"])

    exports = plain(baked)

    assert "_initialize" not in exports
    assert 5000 == exports["count"]()
    assert 4321**2 == exports["get"](4321)
    exports["put"](9999, 1)
    assert 5001 == exports["count"]()


def test_names_and_indices_stay() -> None:
    before = read_module(EVERYTHING_WASM)
    after = read_module(bake(EVERYTHING_SUBJECT, []).wasm)

    assert before.exports == after.exports
    assert before.functions == after.functions
    assert before.function_names == after.function_names
    assert [segment.mode for segment in before.data] == [segment.mode for segment in after.data[: len(before.data)]]
    kept = after.elements[: len(before.elements)]
    assert [(each.mode, each.type) for each in before.elements] == [(each.mode, each.type) for each in kept]
    assert after.start is None


def test_functions_that_code_names_stay_declared() -> None:
    source = """(module (table $t 2 funcref) (elem (table $t) (i32.const 0) func $f) (func $f)
      (func (export "clear") (table.fill $t (i32.const 0) (ref.null func) (i32.const 2)))
      (func (export "fill") (table.set $t (i32.const 1) (ref.func $f))))"""
    pair = bake(Subject.of(source), [Call("clear")])

    pair.call([Call("fill")])
    plain(pair.wasm)["fill"]()  # our engine exports such functions, which declares them too


def test_a_table_with_holes_is_baked() -> None:
    source = """(module (table $t (export "t") 100 funcref) (elem declare func $f) (func $f)
      (func (export "set") (param i32) (table.set $t (local.get 0) (ref.func $f))))"""
    pair = bake(Subject.of(source), [Call("set", at) for at in (3, 4, 6, 50, 51, 99)])

    assert pair.wasm.count(b"\xd0\x70\x0b") == 1  # only the short hole is written as nulls


def test_zeros_are_left_out() -> None:
    source = '(module (memory 100) (data (i32.const 0) "a") (data (i32.const 5000000) "b"))'
    with ENGINE.compile(source).instantiate() as instance:
        assert 100 > len(instance.snapshot().to_wasm(ENGINE.wat_to_wasm(source)))


def test_a_memory_in_too_many_pieces_gets_fewer_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replicate.binary.initial_state._MOST_SEGMENTS", 10)
    wasm = ENGINE.wat_to_wasm('(module (memory (export "memory") 4))')
    with ENGINE.compile(wasm).instantiate() as instance:
        for at in range(0, 4 * 65536, 997):
            instance.memory.write(at, b"x")
        content = instance.memory.read(0, 4 * 65536)
        baked = instance.snapshot().to_wasm(wasm)

    assert 10 >= len(read_module(baked).data)
    with ENGINE.compile(baked).instantiate() as twin:
        assert content == twin.memory.read(0, 4 * 65536)


@pytest.mark.parametrize(
    ("declared", "kind", "place"),
    [
        ('(memory (import "e" "m") 1)', "memory", "memory 0 ($m)"),
        ('(global $m (import "e" "m") (mut i32))', "global", "global 0 ($m)"),
        ('(table $m (import "e" "m") 1 funcref)', "table", "table 0 ($m)"),
    ],
)
def test_what_the_host_gives_is_refused(declared: str, kind: str, place: str) -> None:
    wasm = ENGINE.wat_to_wasm(f"(module {declared})")
    imports = {"e": {"m": 0}} if kind == "global" else {}
    with ENGINE.compile(wasm).instantiate(imports) as instance:
        with pytest.raises(NotReplicableError, match="it is imported") as caught:
            instance.snapshot().to_wasm(wasm)

    assert [finding.place for finding in caught.value.findings] == [
        place if kind != "memory" else describe(kind, 0, None)
    ]


def test_the_guest_that_imports_everything_is_refused_for_each() -> None:
    imports = {"env": {"notify": lambda value: None, "counter": 0, "base": 5}}
    wasm = ENGINE.wat_to_wasm((ROOT / "wasm/start.wat").read_text(encoding="utf-8"))
    with ENGINE.compile(wasm).instantiate(imports) as instance:
        with pytest.raises(NotReplicableError) as caught:
            instance.snapshot().to_wasm(wasm)

    assert ["memory 0", "global 0 ($counter)", "table 0"] == [finding.place for finding in caught.value.findings]


def test_host_state_is_refused_unless_told_to_leave_it_out() -> None:
    wasm = ENGINE.wat_to_wasm("(module)")
    with ENGINE.compile(wasm).instantiate() as instance:
        instance.state["users"] = 3
        snapshot = instance.snapshot()

    with pytest.raises(NotReplicableError, match="'users'"):
        snapshot.to_wasm(wasm)
    assert wasm[:8] == snapshot.to_wasm(wasm, ignore_host_state=True)[:8]


def test_another_module_is_refused() -> None:
    with ENGINE.compile("(module)").instantiate() as instance:
        snapshot = instance.snapshot()

    with pytest.raises(SnapshotMismatchError, match="very binary"):
        snapshot.to_wasm(ENGINE.wat_to_wasm("(module (memory 1))"))


def test_an_export_to_leave_out_must_be_there() -> None:
    wasm = ENGINE.wat_to_wasm("(module)")
    with ENGINE.compile(wasm).instantiate() as instance:
        with pytest.raises(MissingExportError, match="'_initialize'"):
            instance.snapshot().to_wasm(wasm, without_exports=["_initialize"])


def _altered(snapshot: Snapshot) -> list[Snapshot]:
    def with_global(index: int, value: int | None) -> Snapshot:
        return attrs.evolve(
            snapshot, globals=tuple((at, value if at == index else old) for at, old in snapshot.globals)
        )

    index, elements = snapshot.tables[0]
    return [
        attrs.evolve(snapshot, memories=snapshot.memories[:1]),
        attrs.evolve(snapshot, memories=(attrs.evolve(snapshot.memories[0], size=5), *snapshot.memories[1:])),
        with_global(1, 1 << 32),
        with_global(1, None),
        with_global(6, 1 << 20),
        attrs.evolve(snapshot, tables=((index, elements[:1]), *snapshot.tables[1:])),
        attrs.evolve(snapshot, tables=((index, (9999, *elements[1:])), *snapshot.tables[1:])),
        attrs.evolve(snapshot, dropped=(("data", 0),)),
    ]


def test_an_altered_snapshot_is_refused() -> None:
    with EVERYTHING_SUBJECT.start(HostLog()) as instance:
        snapshot = instance.snapshot()

    for altered in _altered(snapshot):
        with pytest.raises(SnapshotMismatchError, match="altered"):
            altered.to_wasm(EVERYTHING_WASM)


def test_the_start_function_does_not_run_again() -> None:
    pair = bake(EVERYTHING_SUBJECT, [])

    assert Outcome("returned", (101, 2, 0x40400000, 0x4010 << 48, 6)) == perform(pair.baked, Call("get"), pair.log)
    with pytest.raises(Trap):
        pair.baked.call("call", 0)
