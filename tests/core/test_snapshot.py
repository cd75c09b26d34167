"""Snapshots as values: equal states give equal bytes, and nothing but a snapshot is read as one."""

from __future__ import annotations

import math
from typing import Any

import attrs
import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from subjects import CELLS

from replicate import Snapshot, load_engine
from replicate.errors import SnapshotError, SnapshotFormatError, SnapshotMismatchError, StateError
from replicate.memory_runs import PAGE, MemoryState, read_memory, write_memory
from replicate.plaindata import copy_plain, decode_plain, encode_plain, is_same_plain
from replicate.snapshot import _HEADER

ATOMS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.just(-0.0), st.just(float("nan"))
)
PLAIN = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.lists(inner, max_size=3).map(tuple), st.dictionaries(st.text(max_size=3), inner)
    ),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    """Compare plain data exactly: types, signs of zero and NaNs too."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(other)) or (
            one == other and math.copysign(1, one) == math.copysign(1, other)
        )
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


@given(PLAIN)
def test_plain_data_survives_being_written_down_and_copied(value: Any) -> None:
    assert same(value, decode_plain(encode_plain(value)))
    assert same(value, copy_plain(value))


@given(PLAIN, PLAIN)
def test_plain_data_has_equal_bytes_exactly_when_it_is_the_same(one: Any, other: Any) -> None:
    assert same(one, other) == (encode_plain(one) == encode_plain(other)) == is_same_plain(one, other)
    assert is_same_plain(decode_plain(encode_plain(one)), one)


def test_the_order_of_keys_does_not_matter() -> None:
    assert encode_plain({"a": 1, "b": 2}) == encode_plain({"b": 2, "a": 1})


@pytest.mark.parametrize("value", [{1, 2}, {"a": object()}, [1, [2, {"k": 3j}]], {3: 4}, bytearray(b"x")])
def test_what_is_not_plain_is_named(value: Any) -> None:
    with pytest.raises(StateError, match="state"):
        copy_plain(value)
    with pytest.raises(StateError, match="state"):
        encode_plain(value)


def test_data_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(StateError, match="itself"):
        copy_plain(loop)
    with pytest.raises(StateError):
        encode_plain(loop)


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_any_bytes_are_plain_data_or_refused(data: bytes) -> None:
    try:
        value = decode_plain(data)
    except SnapshotFormatError:
        return
    assert same(value, decode_plain(encode_plain(value)))


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.integers(0, 70), st.binary(min_size=1, max_size=40)),
    st.integers(0, 71),
    st.integers(0, PAGE - 1),
)
def test_a_memory_survives_as_runs_of_pages(pages: dict[int, bytes], size: int, extra: int) -> None:
    content = bytearray(size * PAGE + extra)
    for page, data in pages.items():
        if (page + 1) * PAGE <= len(content):
            content[page * PAGE : page * PAGE + len(data)] = data
    state = read_memory(memoryview(content))
    assert state.size == len(content)
    assert all(any(data[at : at + PAGE]) for _, data in state.runs for at in range(0, len(data), PAGE)), (
        "no page of zeros"
    )
    ends = [start + len(data) for start, data in state.runs]
    assert all(end < start for end, (start, _) in zip(ends, state.runs[1:], strict=False)), "runs don't touch"
    back = bytearray(b"\xff" * len(content))
    view = memoryview(back)
    write_memory(view, state, clear=lambda start, end: view.__setitem__(slice(start, end), bytes(end - start)))
    assert back == content


def take() -> Snapshot:
    """Take a snapshot with every kind of part in it."""
    with load_engine("wasmtime").compile(CELLS).instantiate({"host": {"fail": lambda: None}}) as instance:
        instance.call("set", 3, 77)
        instance.call("point", 1, 1)
        instance.call("drop")
        instance.state.update(a=[1, 2.5, None], b={"c": b"x"})
        return instance.snapshot()


def test_a_snapshot_survives_a_file(tmp_path: Any) -> None:
    snapshot = take()
    snapshot.save(tmp_path / "s.snap")
    assert Snapshot.load(tmp_path / "s.snap") == snapshot
    assert (tmp_path / "s.snap").read_bytes() == take().to_bytes(), "equal states give equal bytes"
    assert hash(snapshot) == hash(take())
    assert [path.name for path in tmp_path.iterdir()] == ["s.snap"]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_snapshot_is_refused(data: Any) -> None:
    whole = SAVED
    kind = data.draw(st.sampled_from(["flip", "cut", "tail", "other"]))
    if kind == "flip":
        at = data.draw(st.integers(0, len(whole) - 1))
        if 18 <= at < 24:  # unused bytes of the header
            return
        damaged = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    elif kind == "cut":
        damaged = whole[: data.draw(st.integers(0, len(whole) - 1))]
    elif kind == "tail":
        damaged = whole + data.draw(st.binary(min_size=1, max_size=9))
    else:
        damaged = data.draw(st.binary(max_size=200))
    with pytest.raises(SnapshotFormatError):
        Snapshot.from_bytes(damaged)


SAVED = take().to_bytes()


def test_a_file_that_is_none_is_named(tmp_path: Any) -> None:
    (tmp_path / "no.snap").write_bytes(b"hello" * 100)
    with pytest.raises(SnapshotFormatError, match=r"no\.snap.*isn't a snapshot"):
        Snapshot.load(tmp_path / "no.snap")
    with pytest.raises(SnapshotError, match="can't read"):
        Snapshot.load(tmp_path / "missing.snap")
    with pytest.raises(SnapshotFormatError, match="format 9"):
        Snapshot.from_bytes(SAVED[:16] + b"\x09" + SAVED[17:])


@pytest.mark.parametrize(
    "change",
    [
        {"memories": ()},
        {"globals": ((0, 1),)},
        {"tables": ()},
        {"dropped": (("data", 7),)},
        {"module_digest": "0" * 64},
    ],
)
def test_an_altered_snapshot_is_refused_and_changes_nothing(change: Any) -> None:
    snapshot = attrs.evolve(take(), **change)
    with load_engine("wasmtime").compile(CELLS).instantiate({"host": {"fail": lambda: None}}) as instance:
        before = instance.snapshot()
        with pytest.raises(SnapshotMismatchError):
            instance.restore(snapshot)
        assert instance.snapshot() == before


def test_the_fields_of_a_snapshot_are_all_written_down() -> None:
    """A field that is added must be written, read and compared: this list is closed on purpose."""
    assert [field.name for field in attrs.fields(Snapshot)] == [
        *("module_digest", "memories", "globals", "tables", "dropped", "host")
    ]
    assert [field.name for field in attrs.fields(MemoryState)] == ["size", "runs"]
    assert _HEADER.size == 64
    snapshot = take()
    others: dict[str, Any] = {
        "module_digest": "1" * 64,
        "memories": (MemoryState(0, ()),),
        "globals": ((0, None),),
        "tables": ((0, (None,)),),
        "dropped": (),
        "host": encode_plain({}),
    }
    for name, value in others.items():
        other = attrs.evolve(snapshot, **{name: value})
        assert other != snapshot
        assert other.to_bytes() != snapshot.to_bytes()
        assert Snapshot.from_bytes(other.to_bytes()) == other
