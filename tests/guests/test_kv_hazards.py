"""The key-value guest under the bare runtime: what makes it hard to replicate does happen."""

from __future__ import annotations

import struct

import pytest
import wasmtime

from .bare import HEAP_PAGE, WASM_PAGE, Guest, MakeGuest, signed


def test_equal_calls_give_equal_memories(make: MakeGuest) -> None:
    def after() -> bytes:
        guest = make()
        guest.call("fill", 3000, 5)
        guest.put_bytes(b"key", b"value")
        guest.call("delete", 17)
        guest.call("seed", 3)
        guest.call("draw")
        return guest.image()

    assert after() == after()


def test_a_counting_read_leaves_its_count_behind(guest: Guest) -> None:
    guest.call("put", 1, 42)
    before = guest.image()
    assert guest.call("get", 1) == 42
    assert guest.image() == before
    assert guest.call("get_counting", 1) == 42
    assert guest.call("reads") == 1
    assert guest.image() != before


def test_equal_seeds_draw_equal_numbers(make: MakeGuest) -> None:
    one, other = make(), make()
    one.call("seed", 1)
    other.call("seed", 1)
    drawn = [one.call("draw") for _ in range(5)]
    assert drawn == [other.call("draw") for _ in range(5)]
    assert len(set(drawn)) == 5
    other.call("seed", 2)
    assert other.call("draw") not in drawn


def test_a_trap_leaves_half_a_change(guest: Guest) -> None:
    with pytest.raises(wasmtime.Trap, match="unreachable"):
        guest.call("put_then_trap", 1, 42)
    assert guest.call("get", 1) == 42
    with pytest.raises(wasmtime.Trap, match="unreachable"):
        guest.call("trap_after", 5000)
    assert guest.call("count") == 5000


def test_recursion_answers_its_depth_and_restores_the_stack(guest: Guest) -> None:
    left = guest.call("stack_left")
    assert [guest.call("recurse", depth) for depth in (-1, 0, 1, 100)] == [0, 0, 1, 100]
    assert guest.call("stack_left") == left


def test_a_trap_leaves_the_hidden_stack_pointer_lowered(guest: Guest) -> None:
    before, left = guest.image(), guest.call("stack_left")
    with pytest.raises(wasmtime.Trap, match="unreachable"):
        guest.call("recurse_then_trap", 10)
    assert guest.call("stack_left") <= left - 10 * 256
    guest.memory.write(guest.store, before, 0)
    assert guest.call("stack_left") <= left - 10 * 256, "the memory's content doesn't hold it"


def test_traps_add_up_to_a_stack_overflow_far_from_their_cause(guest: Guest) -> None:
    for _ in range(10):
        with pytest.raises(wasmtime.Trap, match="unreachable"):
            guest.call("recurse_then_trap", 20)
    with pytest.raises(wasmtime.Trap, match="out of bounds memory access"):
        guest.call("recurse", 100)


def test_a_stack_overflow_traps_before_it_reaches_the_entries(guest: Guest) -> None:
    guest.call("fill", 100, 0)
    statics_and_heap = guest.image()[WASM_PAGE:]
    with pytest.raises(wasmtime.Trap, match="out of bounds memory access"):
        guest.call("recurse", 100_000)
    assert guest.image()[WASM_PAGE:] == statics_and_heap
    assert guest.call("sum") == sum(range(100))


def test_spinning_computes_and_touches_no_memory(guest: Guest) -> None:
    before, x = guest.image(), 1000
    for n in reversed(range(1000)):
        x = ((x ^ n) * 0xD6E8FEB86659FD93 + 1) % 2**64
    assert guest.call("spin", 1000) == signed(x)
    assert guest.image() == before


def test_spinning_forever_ends_when_interrupted(guest: Guest) -> None:
    before = guest.image()
    guest.store.set_fuel(100_000)
    with pytest.raises(wasmtime.Trap, match="fuel"):
        guest.call("spin_forever")
    assert guest.image() == before


def test_dirty_writes_the_pages_asked_for_and_no_others(guest: Guest) -> None:
    at = guest.call("dirty", 5, 3, 7)
    assert at % HEAP_PAGE == 0
    written = [struct.unpack("<i", guest.read(at + page * HEAP_PAGE, 4))[0] for page in range(13)]
    assert written == [7, 0, 0] * 4 + [7]
    before = guest.image()
    assert guest.call("dirty", 2, 12, -1) == at
    after = guest.image()
    changed = [page for page in range(len(after) // HEAP_PAGE) if _page(before, page) != _page(after, page)]
    assert changed == [at // HEAP_PAGE, at // HEAP_PAGE + 12]


def test_dirty_makes_a_larger_block_when_the_old_one_is_too_small(guest: Guest) -> None:
    guest.call("fill", 100, 0)
    assert guest.call("dirty", 1, 1, 1) != 0
    pages = guest.call("memory_pages")
    assert guest.call("dirty", 64, 16, 1) != 0
    assert guest.call("memory_pages") >= pages + 63
    pages = guest.call("memory_pages")
    for need in range(1010, 1040):
        assert guest.call("dirty", 2, need - 1, 1) != 0
    assert guest.call("memory_pages") <= 4 * pages, "the blocks it outgrew were given back"
    assert guest.call("sum") == sum(range(100))
    assert [guest.call("dirty", 0, 1, 1), guest.call("dirty", 1, 0, 1)] == [0, 0]


def _page(image: bytes, number: int) -> bytes:
    return image[number * HEAP_PAGE : (number + 1) * HEAP_PAGE]
