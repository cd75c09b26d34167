"""The key-value guest under the bare runtime, against a Python dict: what every other test takes for granted."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from .bare import BINARY, ROOT, WASM_PAGE, Guest, MakeGuest, signed

SIGNATURES = {
    "_initialize": "() -> ()",
    "initialized": "() -> (i32)",
    "put": "(i64, i64) -> (i64)",
    "get": "(i64) -> (i64)",
    "has": "(i64) -> (i32)",
    "delete": "(i64) -> (i32)",
    "add": "(i64, i64) -> (i64)",
    "count": "() -> (i32)",
    "sum": "() -> (i64)",
    "clear": "() -> ()",
    "fill": "(i32, i64) -> (i32)",
    "alloc": "(i32) -> (i32)",
    "release": "(i32, i32) -> ()",
    "put_bytes": "(i32, i32, i32, i32) -> (i32)",
    "get_bytes": "(i32, i32) -> (i64)",
    "delete_bytes": "(i32, i32) -> (i32)",
    "get_counting": "(i64) -> (i64)",
    "reads": "() -> (i32)",
    "seed": "(i64) -> ()",
    "draw": "() -> (i64)",
    "put_then_trap": "(i64, i64) -> ()",
    "trap_after": "(i32) -> ()",
    "recurse": "(i32) -> (i32)",
    "recurse_then_trap": "(i32) -> ()",
    "stack_left": "() -> (i32)",
    "spin": "(i64) -> (i64)",
    "spin_forever": "() -> ()",
    "dirty": "(i32, i32, i32) -> (i32)",
    "memory_pages": "() -> (i32)",
}


i64 = st.integers(-(2**63), 2**63 - 1)
keys = st.one_of(st.integers(-3, 130), i64)
texts = st.one_of(
    st.sampled_from([b"", b"a", b"ab", b"b"]), st.binary(max_size=40), st.binary(min_size=2040, max_size=5000)
)


class StoreMachine(RuleBasedStateMachine):
    """The guest and two dicts, one a kind of entry."""

    def __init__(self, make: MakeGuest) -> None:
        super().__init__()
        self.guest = make()
        self.numbers: dict[int, int] = {}
        self.texts: dict[bytes, bytes] = {}

    @rule(key=keys, value=i64)
    def put(self, key: int, value: int) -> None:
        assert self.guest.call("put", key, value) == self.numbers.get(key, 0)
        self.numbers[key] = value

    @rule(key=keys, delta=i64)
    def add(self, key: int, delta: int) -> None:
        self.numbers[key] = signed(self.numbers.get(key, 0) + delta)
        assert self.guest.call("add", key, delta) == self.numbers[key]

    @rule(key=keys)
    def get(self, key: int) -> None:
        assert self.guest.call("get", key) == self.numbers.get(key, 0)
        assert self.guest.call("has", key) == (key in self.numbers)

    @rule(key=keys)
    def delete(self, key: int) -> None:
        assert self.guest.call("delete", key) == (self.numbers.pop(key, None) is not None)

    @rule(n=st.integers(-1, 120), start=st.integers(-3, 130))
    def fill(self, n: int, start: int) -> None:
        assert self.guest.call("fill", n, start) == max(n, 0)
        self.numbers.update((key, key) for key in range(start, start + n))

    @rule(key=texts, value=texts)
    def put_bytes(self, key: bytes, value: bytes) -> None:
        assert self.guest.put_bytes(key, value) == (key not in self.texts)
        self.texts[key] = value

    @rule(key=texts)
    def get_bytes(self, key: bytes) -> None:
        assert self.guest.get_bytes(key) == self.texts.get(key)

    @rule(key=texts)
    def delete_bytes(self, key: bytes) -> None:
        assert self.guest.delete_bytes(key) == (self.texts.pop(key, None) is not None)

    @rule()
    def clear(self) -> None:
        self.guest.call("clear")
        self.numbers.clear()
        self.texts.clear()

    @rule()
    def look_at_everything(self) -> None:
        assert {key: self.guest.call("get", key) for key in self.numbers} == self.numbers
        assert {key: self.guest.get_bytes(key) for key in self.texts} == self.texts

    @invariant()
    def totals_agree(self) -> None:
        assert self.guest.call("count") == len(self.numbers) + len(self.texts)
        assert self.guest.call("sum") == signed(sum(self.numbers.values()))


def test_any_sequence_of_calls_gives_what_two_dicts_give(make: MakeGuest) -> None:
    machine: Any = functools.partial(StoreMachine, make)
    run_state_machine_as_test(machine, settings=settings(max_examples=60, stateful_step_count=40, deadline=None))


# -- the binary ----------------------------------------------------------------------------------------------------


def sections(binary: bytes) -> Iterator[int]:
    at = 8
    while at < len(binary):
        identifier, length, shift = binary[at], 0, 0
        while True:
            at += 1
            length |= (binary[at] & 0x7F) << shift
            shift += 7
            if binary[at] < 0x80:
                break
        yield identifier
        at += 1 + length


def test_the_exports_have_the_documented_types(module: wasmtime.Module) -> None:
    def names(types: list[wasmtime.ValType]) -> str:
        return f"({', '.join(map(str, types))})"

    functions = {e.name: e.type for e in module.exports if isinstance(e.type, wasmtime.FuncType)}
    assert {name: f"{names(t.params)} -> {names(t.results)}" for name, t in functions.items()} == SIGNATURES


def test_it_imports_nothing_and_exports_one_small_memory_without_maximum(module: wasmtime.Module) -> None:
    assert module.imports == []
    memory = next(e.type for e in module.exports if e.name == "memory")
    assert isinstance(memory, wasmtime.MemoryType)
    assert (memory.limits.min, memory.limits.max) == (2, None)
    assert len([e for e in module.exports if e.name not in SIGNATURES]) == 1


def test_it_is_stripped_to_the_sections_that_run() -> None:
    assert 0 not in set(sections(BINARY))


def test_the_packaged_module_is_the_pinned_one() -> None:
    lines = (ROOT / "wasm" / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    sums = {name: digest for digest, name in (line.split() for line in lines)}
    assert hashlib.sha256(BINARY).hexdigest() == sums["adapters/replicate_kv/kv.wasm"]


# -- starting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("put", (1, 2)),
        ("get", (1,)),
        ("has", (1,)),
        ("delete", (1,)),
        ("add", (1, 2)),
        ("count", ()),
        ("sum", ()),
        ("clear", ()),
        ("fill", (1, 1)),
        ("alloc", (1,)),
        ("release", (70000, 1)),
        ("put_bytes", (70000, 1, 70000, 1)),
        ("get_bytes", (70000, 1)),
        ("delete_bytes", (70000, 1)),
        ("get_counting", (1,)),
        ("put_then_trap", (1, 2)),
        ("trap_after", (1,)),
        ("dirty", (1, 1, 1)),
    ],
)
def test_a_forgotten_initialize_shows_at_the_first_call(make: MakeGuest, name: str, args: tuple[int, ...]) -> None:
    guest = make(initialise=False)
    assert guest.call("initialized") == 0
    with pytest.raises(wasmtime.Trap, match="unreachable"):
        guest.call(name, *args)


def test_initialize_runs_once(guest: Guest) -> None:
    with pytest.raises(wasmtime.Trap, match="unreachable"):
        guest.call("_initialize")
    assert guest.call("initialized") == 1


# -- memory --------------------------------------------------------------------------------------------------------


def test_a_large_fill_rehashes_and_grows_and_loses_nothing(guest: Guest) -> None:
    pages = guest.call("memory_pages")
    assert guest.call("fill", 50_000, -25_000) == 50_000
    assert guest.call("memory_pages") > pages + 10
    assert guest.call("count") == 50_000
    assert all(guest.call("get", key) == key for key in range(-25_000, 25_000, 97))
    assert guest.call("has", 25_000) == 0
    assert guest.call("sum") == sum(range(-25_000, 25_000))


def test_what_is_cleared_is_used_again(guest: Guest) -> None:
    guest.call("fill", 20_000, 0)
    for number in range(100):
        guest.put_bytes(b"key %d" % number, b"x" * 3000)
    pages = guest.call("memory_pages")
    for _ in range(3):
        guest.call("clear")
        assert guest.call("count") == 0
        guest.call("fill", 20_000, 0)
        for number in range(100):
            guest.put_bytes(b"key %d" % number, b"x" * 3000)
    assert guest.call("memory_pages") == pages


def test_replacing_and_deleting_bytes_gives_memory_back(guest: Guest) -> None:
    key = b"k" * 70_000
    guest.put_bytes(key, b"x" * 70_000)
    guest.put_bytes(key, b"x" * 70_000)
    pages = guest.call("memory_pages")
    for length in range(70_000, 69_950, -1):
        assert guest.put_bytes(key, b"y" * length) == 0
    for length in range(70_000, 69_950, -1):
        assert guest.delete_bytes(key) == 1
        assert guest.put_bytes(key, b"z" * length) == 1
    assert guest.call("memory_pages") == pages


def test_deleting_from_crowded_slots_loses_no_neighbour(guest: Guest) -> None:
    left = set(range(3000))
    guest.call("fill", 3000, 0)
    for key in range(0, 9000, 7):
        assert guest.call("delete", key % 3000) == (key % 3000 in left)
        left.discard(key % 3000)
    assert {key for key in range(3000) if guest.call("has", key)} == left
    assert guest.call("sum") == sum(left)


@settings(max_examples=50, deadline=None)
@given(steps=st.lists(st.one_of(st.integers(0, 9000), st.integers(-8, -1)), max_size=60))
def test_blocks_never_overlap(make: MakeGuest, steps: list[int]) -> None:
    """A number n >= 0 takes n bytes; a negative one gives a block back."""
    guest = make()
    blocks: list[tuple[int, bytes]] = []
    for mark, step in enumerate(steps):
        if step >= 0:
            data = bytes([mark]) * step
            blocks.append((guest.alloc(data), data))
        elif blocks:
            at, data = blocks.pop(step % len(blocks))
            assert guest.read(at, len(data)) == data
            guest.call("release", at, len(data))
    assert all(guest.read(at, len(data)) == data for at, data in blocks)


def test_memory_that_the_host_grew_is_left_alone(guest: Guest) -> None:
    guest.memory.grow(guest.store, 3)
    guest.call("fill", 10_000, 0)
    assert guest.read(2 * WASM_PAGE, 3 * WASM_PAGE) == bytes(3 * WASM_PAGE)
    assert guest.call("sum") == sum(range(10_000))


def test_without_memory_an_insertion_fails_and_changes_no_entry(make: MakeGuest) -> None:
    guest = make(limit=8)
    stored = guest.call("fill", 1_000_000, 0)
    assert 0 < stored < 1_000_000
    for name, args in [("put", (-1, 5)), ("add", (-1, 5)), ("put_then_trap", (-1, 5))]:
        with pytest.raises(wasmtime.Trap, match="unreachable"):
            guest.call(name, *args)
    assert guest.call("alloc", 8 * WASM_PAGE) == 0
    assert guest.call("alloc", -1) == 0
    assert guest.call("dirty", 8 * 16, 1, 1) == 0
    assert guest.call("dirty", 2**31 - 1, 2**31 - 1, 1) == 0
    assert guest.call("dirty", 2**16 + 1, 2**16, 1) == 0  # 2**32 + 1 pages
    at = guest.alloc(b"k")
    assert guest.call("put_bytes", at, 1, at, 1) == -1
    assert guest.call("put_bytes", at, 1, 0, 8 * WASM_PAGE) == -1
    assert (guest.call("count"), guest.call("sum")) == (stored, sum(range(stored)))
    assert guest.call("put", 0, 7) == 0  # what is there can still be changed
    assert guest.call("delete", 1) == 1
    assert guest.call("put", -1, 5) == 0


def test_a_failed_insertion_keeps_no_memory(make: MakeGuest) -> None:
    guest = make(limit=8)
    at = guest.alloc(b"k" * 120_000)
    guest.put_bytes(b"large", b"v" * 120_000)
    for _ in range(50):
        assert guest.call("put_bytes", at, 120_000, at, 120_000) == -1
    assert guest.put_bytes(b"k", b"v" * 60_000) == 1
