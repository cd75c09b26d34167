"""`Snapshot.diff`: what differs between two states, in the module's terms."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicate import Instance, Snapshot, load_engine
from replicate.diff import ByteChange, ElementChange, GlobalChange, HostChange, SegmentChange, SizeChange, SnapshotDiff
from replicate.errors import SnapshotMismatchError
from replicate.memory_runs import read_memory

SOURCE = r"""(module
  (memory (export "memory") 1 64)
  (table $t (export "t") 2 9 funcref)
  (global $count (mut i32) (i32.const -1))
  (global $ratio (mut f64) (f64.const 1))
  (global $f (mut funcref) (ref.null func))
  (data $d "abc")
  (elem declare func $one)
  (func $one)
  (func (export "count") (param i32) (global.set $count (local.get 0)))
  (func (export "ratio") (param i64) (global.set $ratio (f64.reinterpret_i64 (local.get 0))))
  (func (export "point") (table.set $t (i32.const 1) (ref.func $one)) (global.set $f (ref.func $one)))
  (func (export "extend") (drop (table.grow $t (ref.func $one) (i32.const 1))))
  (func (export "drop") (data.drop $d)))"""


@pytest.fixture
def instance() -> Iterator[Instance]:
    with load_engine().compile(SOURCE).instantiate() as instance:
        yield instance


def of_memories(*contents: bytes) -> Snapshot:
    memories = tuple(read_memory(memoryview(content)) for content in contents)
    return Snapshot("0" * 64, memories, (), (), (), b"M" + bytes(8))


def test_equal_states_have_no_difference(instance: Instance) -> None:
    one = instance.snapshot()

    diff = one.diff(instance.snapshot())

    assert SnapshotDiff() == diff
    assert not diff
    assert "no difference" == str(diff)


def test_every_kind_of_state_is_told(instance: Instance) -> None:
    instance.state.update(same=1, old="a", changed=1)
    before = instance.snapshot()
    instance.memory.grow(1)
    instance.memory.write(100, b"hello")
    instance.call("count", 7)
    instance.call("point")
    instance.call("extend")
    instance.call("drop")
    instance.state.update(changed=True, new=[1])
    del instance.state["old"]

    diff = before.diff(instance.snapshot(), info=instance.module.info)

    assert (
        SizeChange(kind="memory", index=0, before=65536, after=131072, label="memory"),
        SizeChange(kind="table", index=0, before=2, after=3, label="t"),
    ) == diff.sizes
    assert (ByteChange(memory=0, start=100, before=bytes(5), after=b"hello", label="memory"),) == diff.memory
    types = instance.module.info.globals
    assert (
        GlobalChange(index=0, before=2**32 - 1, after=7, type=types[0], label="count"),
        GlobalChange(index=2, before=None, after=0, type=types[2], label="f"),
    ) == diff.globals
    assert (
        ElementChange(table=0, position=1, before=None, after=0, label="t"),
        ElementChange(table=0, position=2, before=None, after=0, label="t"),
    ) == diff.elements
    assert (SegmentChange(kind="data", index=0, dropped=True, label="d"),) == diff.segments
    assert (
        HostChange(key="changed", before=(1,), after=(True,)),
        HostChange(key="new", before=(), after=([1],)),
        HostChange(key="old", before=("a",), after=()),
    ) == diff.host


def test_a_difference_can_be_read(instance: Instance) -> None:
    before = instance.snapshot()
    instance.memory.write(16, bytes(range(1, 41)))
    instance.call("count", 7)
    instance.call("ratio", 0x7FF4 << 48)
    instance.call("point")
    instance.call("drop")
    instance.state["name"] = "x" * 200
    after = instance.snapshot()

    assert [
        "memory 0 ($memory) at 0x10, 40 bytes: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 ... -> "
        "01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f 10 ...",
        "global 0 ($count): -1 -> 7",
        "global 1 ($ratio): 1.0 -> nan (0x7ff4000000000000)",
        "global 2 ($f): null -> function 0",
        "element 1 of table 0 ($t): null -> function 0",
        "data segment 0 ($d): there -> dropped",
        "state['name']: missing -> '" + "x" * 59 + "...",
    ] == str(before.diff(after, info=instance.module.info)).splitlines()
    assert "global 0: 0x7 -> 0xffffffff" in str(after.diff(before)).splitlines()


def test_many_differences_are_cut() -> None:
    scattered = bytes(1000).join([b"x"] * 50)

    lines = str(of_memories(bytes(len(scattered))).diff(of_memories(scattered))).splitlines()

    assert 21 == len(lines)
    assert "... 30 more of this sort (range of bytes)" == lines[-1]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_ranges_hold_exactly_what_differs(data: st.DataObject) -> None:
    size = data.draw(st.sampled_from([100, 4096, 70_000, 600_000]))
    before = bytearray(
        random.Random(data.draw(st.integers(0, 9))).randbytes(size) if data.draw(st.booleans()) else size
    )
    after = bytearray(before)
    edges = st.sampled_from([0, 4090, 4096, 4100, 262_140, 262_144, 262_150, size - 1])
    for at in data.draw(st.lists(st.one_of(edges, st.integers(0, size - 1)), max_size=12)):
        change = data.draw(st.binary(min_size=1, max_size=20))[: max(size - at, 0)]
        if at < size:
            after[at : at + len(change)] = change
    after += bytes(data.draw(st.sampled_from([0, 65536])))
    one, two = of_memories(bytes(before)), of_memories(bytes(after))

    diff = one.diff(two)

    assert (one != two) == bool(diff)
    patched = before + bytes(len(after) - len(before))
    end = -8
    for change in diff.memory:
        assert change.start >= end + 8
        assert change.before == patched[change.start : change.end]
        assert change.before[0] != change.after[0]
        assert change.before[-1] != change.after[-1]
        patched[change.start : change.end] = change.after
        end = change.end
    assert after == patched
    mirrored = tuple(attrs.evolve(change, before=change.after, after=change.before) for change in diff.memory)
    assert mirrored == two.diff(one).memory


def test_a_large_memory_that_is_mostly_equal_is_compared_fast() -> None:
    content = bytearray(random.Random(1).randbytes(1 << 20) * 64)
    before = of_memories(bytes(content))
    content[40_000_000] ^= 1
    after = of_memories(bytes(content))

    start = time.perf_counter()
    diff = before.diff(after)

    assert time.perf_counter() - start < 2
    assert [(40_000_000, 40_000_001)] == [(change.start, change.end) for change in diff.memory]


def test_snapshots_of_different_modules_are_not_compared(instance: Instance) -> None:
    snapshot = instance.snapshot()

    with pytest.raises(SnapshotMismatchError, match="different modules"):
        snapshot.diff(attrs.evolve(snapshot, module_digest="0" * 64))
    with pytest.raises(SnapshotMismatchError, match="the very binary"):
        snapshot.diff(snapshot, info=load_engine().compile("(module)").info)
    with pytest.raises(SnapshotMismatchError, match="altered"):
        snapshot.diff(attrs.evolve(snapshot, globals=()))
