"""The Python face of the key-value guest, against a dict, over a handle of the bare runtime."""

from __future__ import annotations

from typing import Any, cast

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from replicate.errors import AdapterError
from replicate.handles import Guest
from replicate_kv import KeyValue, KeyValueAdapter


class BareMemory:
    def __init__(self, store: wasmtime.Store, memory: wasmtime.Memory) -> None:
        self.store, self.memory = store, memory

    def read(self, offset: int, length: int) -> bytes:
        assert 0 <= offset <= offset + length <= self.memory.data_len(self.store)
        return bytes(self.memory.read(self.store, offset, offset + length))

    def write(self, offset: int, data: bytes) -> None:
        assert 0 <= offset <= offset + len(data) <= self.memory.data_len(self.store)
        if data:
            self.memory.write(self.store, data, offset)


class BareGuest:
    """The part of a guest handle that the adapter and the face use."""

    def __init__(self, engine: wasmtime.Engine, *, limit_bytes: int = -1) -> None:
        self.store = wasmtime.Store(engine)
        self.store.set_limits(memory_size=limit_bytes)
        module = wasmtime.Module(engine, KeyValueAdapter().source())
        self.exports = wasmtime.Instance(self.store, module, []).exports(self.store)
        memory = self.exports["memory"]
        assert isinstance(memory, wasmtime.Memory)
        self.memory = BareMemory(self.store, memory)
        self.call("_initialize")

    def call(self, name: str, *args: int) -> Any:
        function = self.exports[name]
        assert isinstance(function, wasmtime.Func)
        return function(self.store, *args)


@pytest.fixture(scope="module")
def engine() -> wasmtime.Engine:
    return wasmtime.Engine()


def store_on(guest: BareGuest) -> KeyValue:
    return KeyValue(cast(Guest, guest))


@pytest.fixture
def store(engine: wasmtime.Engine) -> KeyValue:
    return store_on(BareGuest(engine))


entries = st.one_of(
    st.tuples(st.integers(-5, 5), st.integers(-(2**63), 2**63 - 1)),
    st.tuples(st.binary(max_size=3), st.binary(max_size=5000)),
)


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.tuples(st.booleans(), entries), max_size=30))
def test_it_behaves_like_a_dict(engine: wasmtime.Engine, steps: list[tuple[bool, tuple[Any, Any]]]) -> None:
    store, model = store_on(BareGuest(engine)), dict[Any, Any]()
    for is_delete, (key, value) in steps:
        if not is_delete:
            store[key] = model[key] = value
        elif key in model:
            del store[key], model[key]
        else:
            with pytest.raises(KeyError):
                del store[key]
            with pytest.raises(KeyError):
                store[key]
        assert (key in store) == (key in model)
    assert len(store) == len(model)
    assert {key: store[key] for key in model} == model


def test_a_stored_zero_is_not_an_absent_key(store: KeyValue) -> None:
    store[1] = 0
    assert [store.get(1, default=7), store.get(2, default=7), store.get(2)] == [0, 7, 0]
    assert [1 in store, 2 in store, b"1" in store] == [True, False, False]


def test_ints_are_put_added_summed_and_deleted(store: KeyValue) -> None:
    assert [store.put(1, 5), store.put(1, 6), store.add(1, -2), store.add(2, 3)] == [0, 5, 4, 3]
    assert store.sum() == 7
    assert [store.delete(1), store.delete(1)] == [True, False]
    store.clear()
    assert len(store) == 0


def test_bytes_tell_new_from_replaced_and_absent(store: KeyValue) -> None:
    assert [store.put_bytes(b"k", b""), store.put_bytes(b"k", b"v")] == [True, False]
    assert [store.get_bytes(b"k"), store.get_bytes(b"")] == [b"v", None]
    assert [store.delete_bytes(b"k"), store.delete_bytes(b"k")] == [True, False]


def test_lent_memory_is_given_back(store: KeyValue) -> None:
    store[b"key"] = b"value"
    before = store.guest.call("alloc", 3)
    store.guest.call("release", before, 3)
    for _ in range(10):
        assert store[b"key"] == b"value"
    assert store.guest.call("alloc", 3) == before


def test_a_full_guest_is_reported_with_what_to_do(engine: wasmtime.Engine) -> None:
    store = store_on(BareGuest(engine, limit_bytes=4 * 65536))
    with pytest.raises(AdapterError, match=r"no memory for 200001 more byte\(s\)"):
        store.put_bytes(b"k", bytes(200_000))
    store.put_bytes(b"k", bytes(70_000))
    with pytest.raises(AdapterError, match="delete entries, or allow it more"):
        store.put_bytes(b"l", bytes(70_000))
    assert store.get_bytes(b"k") == bytes(70_000)
    assert len(store) == 1


def test_the_adapter_needs_no_imports_and_keeps_reads_apart() -> None:
    adapter = KeyValueAdapter()
    assert (adapter.name, adapter.reset, adapter.imports()) == ("kv", "each_read", {})


def test_reseeding_gives_each_guest_numbers_of_its_own(engine: wasmtime.Engine) -> None:
    guests = [BareGuest(engine), BareGuest(engine)]
    assert guests[0].call("draw") == guests[1].call("draw")
    for guest in guests:
        KeyValueAdapter().reseed(cast(Guest, guest))
    assert guests[0].call("draw") != guests[1].call("draw")
