"""Copy-on-write images, from the page map up: what is private, what is kept, what leaks, what a fork may do."""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import signal
import sys
import threading
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from replicate import Pool, linux, load_engine
from replicate.errors import PoolError, PoolForkedError, ReplicateWarning
from replicate.memory_modes import memory_maker, page_map, why_not_copy_on_write
from replicate.private_pages import MOST_KEPT

pytestmark = pytest.mark.skipif(
    why_not_copy_on_write() is not None, reason=f"no copy-on-write: {why_not_copy_on_write()}"
)

PAGE = linux.PAGE_SIZE


def wat(pages: int, *, maximum: int = 65536, is_64: bool = False) -> str:
    """Give a guest with a memory of that many Wasm pages and functions to touch it."""
    i = "i64" if is_64 else "i32"
    return f"""(module (import "h" "wait" (func $wait)) (memory (export "memory") {"i64" if is_64 else ""} {pages} {maximum})
      (func (export "peek") (param {i}) (result i32) (i32.load (local.get 0)))
      (func (export "poke") (param {i} i32) (i32.store (local.get 0) (local.get 1)))
      (func (export "wait") (call $wait))
      (func (export "grow") (param {i}) (result {i}) (memory.grow (local.get 0)))
      (func (export "touch") (param $n i32) (param $stride i32) (param $v i32) (local $p {i})
        (loop $l (i32.store (local.get $p) (local.get $v))
          (local.set $p ({i}.add (local.get $p) {"(i64.extend_i32_u (local.get $stride))" if is_64 else "(local.get $stride)"}))
          (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))))"""


def open_pool(pages: int, **options: Any) -> Pool:
    """Open a copy-on-write pool on such a guest."""
    kind = {name: options.pop(name) for name in ("maximum", "is_64") if name in options}
    imports = {"h": {"wait": options.pop("wait", lambda: None)}}
    return Pool.open(wat(pages, **kind), memory="copy-on-write", imports=imports, **options)


# -- the page map ----------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    written=st.sets(st.integers(0, 1199), max_size=700),
    read=st.sets(st.integers(0, 1199), max_size=50),
    dropped=st.sets(st.integers(0, 1199), max_size=50),
)
def test_private_pages_are_exactly_those_written_and_not_dropped(
    written: set[int], read: set[int], dropped: set[int]
) -> None:
    """Up to 700 ranges are more than one buffer of the scan holds, so that a scan that stops there is found out."""
    pages = 1200
    file = os.memfd_create("test")
    maps = [linux.PageMap(), linux.PageMap(scan=False)]
    try:
        os.ftruncate(file, pages * PAGE)
        room = mmap.mmap(-1, pages * PAGE)
        base = ctypes.addressof(ctypes.c_char.from_buffer(room))
        linux.map_private(base, pages * PAGE, file, 0)
        view = (ctypes.c_char * (pages * PAGE)).from_address(base)
        for page in read:
            assert view[page * PAGE] == b"\0"
        for page in written:
            view[page * PAGE + 7] = b"x"
        for page in dropped:
            linux.drop(base + page * PAGE, PAGE)
        expected = written - dropped
        for page_map in maps:
            ranges = page_map.private(base, base + pages * PAGE)
            found = {at for start, end in ranges for at in range((start - base) // PAGE, (end - base) // PAGE)}
            assert expected == found
            assert ranges == sorted(ranges)
            assert all(one[1] < other[0] for one, other in zip(ranges, ranges[1:], strict=False)), "ranges are merged"
    finally:
        for page_map in maps:
            page_map.close()
        os.close(file)


def test_an_anonymous_page_that_was_only_read_counts_as_untouched() -> None:
    room = mmap.mmap(-1, 8 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    assert room[PAGE] == 0
    room[3 * PAGE] = 1
    base = ctypes.addressof(ctypes.c_char.from_buffer(room))
    page_map = linux.PageMap()
    if page_map.scans:
        assert page_map.private(base, base + 8 * PAGE) == [(base + 3 * PAGE, base + 4 * PAGE)]
    page_map.close()


@given(
    kinds=st.lists(st.sampled_from(["file", "private", "swapped", "gone"]), min_size=1, max_size=40),
    limit=st.integers(1, 7),
)
def test_pages_that_were_swapped_out_are_private_still(kinds: list[str], limit: int) -> None:
    """What the kernel says of such pages, played: a real one needs swap space, see the next test."""
    base = 1 << 40
    bits = {"file": 1 << 63 | 1 << 61, "private": 1 << 63, "swapped": 1 << 62, "gone": 0}
    expected = {base + PAGE * at for at, kind in enumerate(kinds) if kind in ("private", "swapped")}

    def pread(file: int, size: int, offset: int) -> bytes:
        first = offset // 8 - base // PAGE
        return b"".join(bits[kind].to_bytes(8, "little") for kind in kinds[first : first + size // 8])

    def ioctl(file: int, request: int, where: int) -> int:
        """Do as PAGEMAP_SCAN does, in regions of one kind, and stop when `limit` of them are found."""
        asked = linux._ScanArguments.from_address(where)
        regions = (ctypes.c_uint64 * (3 * limit)).from_address(asked.vec)
        count, at = 0, asked.start
        while at < asked.end and count < limit:
            kind, begin = kinds[(at - base) // PAGE], at
            while at < asked.end and kinds[(at - base) // PAGE] == kind:
                at += PAGE
            if kind in ("private", "swapped"):
                category = {"private": 1 << 3, "swapped": 1 << 4}[kind]
                regions[3 * count : 3 * count + 3] = [begin, at, category]
                count += 1
        asked.walk_end = at
        return count

    with pytest.MonkeyPatch.context() as patch:
        maps = [linux.PageMap(scan=False), linux.PageMap()]
        patch.setattr(linux.os, "pread", pread)
        patch.setattr(linux, "_ioctl", ioctl)
        maps[1].scans = True
        for page_map in maps:
            ranges = page_map.private(base, base + PAGE * len(kinds))
            assert {at for start, end in ranges for at in range(start, end, PAGE)} == expected
            page_map.close()


def test_a_page_that_really_was_swapped_out_is_carried() -> None:
    with open("/proc/swaps") as swaps:
        if len(swaps.readlines()) < 2:
            pytest.skip("there's no swap space here, so no page can be swapped out")
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    with open_pool(64, replicas=2) as pool:
        pool.write(lambda guest: guest.call("touch", 50, 2 * PAGE, 1))
        with pool.writing() as guest:
            guest.call("touch", 50, 2 * PAGE, 5)
            base = guest._instance.memory_address(0)  # type: ignore[union-attr]
            assert madvise(base, 64 * 65536, 21) == 0, "MADV_PAGEOUT"
        assert pool.read(lambda guest: {guest.call("peek", 2 * PAGE * at) for at in range(50)}) == {5}
        with pool.reading() as guest:
            guest.call("touch", 50, 2 * PAGE, 9)
            base = guest._instance.memory_address(0)  # type: ignore[union-attr]
            assert madvise(base, 64 * 65536, 21) == 0
        for _ in range(2):
            assert pool.read(lambda guest: {guest.call("peek", 2 * PAGE * at) for at in range(50)}) == {5}


# -- commits and versions --------------------------------------------------------------------------------------------------


def test_a_commit_copies_what_was_written_and_no_more() -> None:
    with open_pool(256, replicas=4) as pool:
        for value in range(5):
            pool.write(lambda guest, value=value: guest.call("touch", 50, 2 * PAGE, value))
            assert pool.stats().last_commit_pages == 50
            assert pool.read(lambda guest: [guest.call("peek", 2 * PAGE * at) for at in range(50)]) == [value] * 50
        assert pool.stats().memory_mode == "copy-on-write"
        pool.write(lambda guest: None)
        assert pool.stats().last_commit_pages <= 50, "private pages stay, and are copied again at most"


def test_a_large_write_leaves_no_private_pages_behind() -> None:
    with open_pool(256, replicas=1) as pool:
        pages = MOST_KEPT + 100
        pool.write(lambda guest: guest.call("touch", pages, PAGE, 3))
        pool.write(lambda guest: guest.call("poke", 0, 4))
        assert pool.stats().last_commit_pages == 1
        pool.read(lambda guest: guest.call("touch", pages, PAGE, 9))
        assert pool.read(lambda guest: (guest.call("peek", 0), guest.call("peek", PAGE))) == (4, 3)
        assert sum(pool.stats().private_bytes) == 0


def test_loading_much_once_leaves_later_writes_cheap() -> None:
    with open_pool(256, replicas=1) as pool:
        pool.write(lambda guest: guest.call("touch", 1500, PAGE, 3))
        for value in range(5):
            pool.write(lambda guest, value=value: guest.call("poke", 0, value))
        assert pool.stats().last_commit_pages <= 2
        assert pool.read(lambda guest: (guest.call("peek", 0), guest.call("peek", PAGE))) == (4, 3)


@pytest.mark.parametrize("counted", [True, False])
def test_what_other_threads_write_in_a_transaction_is_seen(counted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no page fault was counted, the private pages aren't listed again: a fault counts on whatever thread it is."""
    monkeypatch.setattr(page_map(), "counts_faults", counted)

    def elsewhere(do: Any, *args: Any) -> None:
        thread = threading.Thread(target=do, args=args)
        thread.start()
        thread.join()

    with open_pool(64, replicas=1) as pool:
        for page in range(20):
            at = 2 * PAGE * page
            with pool.reading() as guest:
                elsewhere(guest.call, "poke", at, 99)
            assert pool.read(lambda guest, at=at: guest.call("peek", at)) == 0
            with pool.writing() as guest:
                elsewhere(guest.call, "poke", at, page + 1)
                elsewhere(guest.memory.write, at + PAGE, b"host")
            assert pool.read(lambda guest, at=at: (guest.call("peek", at), guest.memory.read(at + PAGE, 4))) == (
                page + 1,
                b"host",
            )
            with pytest.raises(LookupError), pool.writing() as guest:
                elsewhere(guest.call, "poke", at, -1)
                raise LookupError
            pool.write(lambda guest: None)
            assert pool.read(lambda guest, at=at: guest.call("peek", at)) == page + 1


def test_without_a_page_fault_nothing_is_listed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    if not page_map().counts_faults:
        pytest.skip("page faults aren't counted here")
    scans = []
    right = linux.PageMap.private
    monkeypatch.setattr(
        linux.PageMap, "private", lambda self, start, end: scans.append(start) or right(self, start, end)
    )
    with open_pool(64, replicas=1) as pool:
        for value in range(200):
            pool.write(lambda guest, value=value: guest.call("touch", 10, PAGE, value))
            assert pool.read(lambda guest: guest.call("peek", 9 * PAGE)) == value
    assert len(scans) < 200, "each of 200 writes and 200 reads could have had one"


@pytest.mark.parametrize("overlap", [True, False])
def test_a_running_read_keeps_every_page_of_its_version(overlap: bool) -> None:
    inside, go = threading.Semaphore(0), threading.Semaphore(0)

    def wait() -> None:
        inside.release()
        assert go.acquire(timeout=60)

    with open_pool(64, replicas=3, wait=wait) as pool:
        pool.write(lambda guest: guest.call("touch", 1000, PAGE, 1))
        seen: list[Any] = []

        def slow(guest: Any) -> None:
            before = [guest.call("peek", PAGE * at) for at in range(500)] if overlap else []
            guest.call("poke", 3 * PAGE, -1)
            guest.call("wait")
            after = [guest.call("peek", PAGE * at) for at in range(1000)]
            seen.append((set(before) <= {1, -1}, after[3], set(after[:3] + after[4:])))

        threads = [threading.Thread(target=pool.read, args=(slow,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in threads:
            assert inside.acquire(timeout=60)
        for value in range(2, 6):
            pool.write(lambda guest, value=value: guest.call("touch", 1000, PAGE, value))
            assert pool.read(lambda guest: guest.call("peek", 5 * PAGE)) == value
        pool.write(lambda guest: (guest.call("grow", 1), guest.call("poke", 64 * 65536, 8)))
        go.release(2)
        for thread in threads:
            thread.join()
        assert seen == [(True, -1, {1})] * 2
        assert pool.read(lambda guest: (guest.call("peek", 3 * PAGE), guest.call("peek", 64 * 65536))) == (5, 8)


def test_growth_is_committed_rolled_back_and_followed() -> None:
    with open_pool(1, replicas=2) as pool:
        with pytest.raises(ZeroDivisionError):
            pool.write(lambda guest: (guest.call("grow", 3), guest.call("poke", 2 * 65536, 7), 1 / 0))
        assert pool.write(lambda guest: guest.memory.size) == 65536
        pool.write(lambda guest: (guest.call("grow", 3), guest.call("poke", 3 * 65536, 7)))
        for _ in range(3):
            assert pool.read(lambda guest: (guest.memory.size, guest.call("peek", 3 * 65536))) == (4 * 65536, 7)
            pool.read(lambda guest: (guest.call("grow", 2), guest.call("poke", 5 * 65536, 1)))
        pool.write(lambda guest: (guest.call("poke", 3 * 65536, 8), guest.call("grow", 1)))
        assert pool.read(lambda guest: (guest.memory.size, guest.call("peek", 3 * 65536))) == (5 * 65536, 8)


def test_a_memory_that_was_empty_can_grow() -> None:
    with open_pool(0, replicas=2) as pool:
        pool.write(lambda guest: (guest.call("grow", 2), guest.call("poke", 65536, 5)))
        assert pool.read(lambda guest: guest.call("peek", 65536)) == 5
        assert pool.snapshot().memories[0].stored == PAGE


def test_idle_replicas_share_their_pages() -> None:
    with open_pool(1024, replicas=16) as pool:
        pool.write(lambda guest: guest.call("touch", 1024 * 16, PAGE, 1))
        for _ in range(20):
            assert pool.read(lambda guest: guest.call("peek", 4 * PAGE)) == 1
        private = pool.stats().private_bytes
        assert len(private) == 16
        assert sum(private) < 0.02 * 16 * 1024 * 65536


@pytest.mark.parametrize("scan", [True, False])
def test_the_page_map_file_does_as_well_as_the_scan(scan: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    page_map = linux.PageMap(scan=scan)
    monkeypatch.setattr("replicate.memory_modes.page_map", lambda: page_map)
    with open_pool(16, replicas=2) as pool:
        for value in range(1, 20):
            pool.write(lambda guest, value=value: guest.call("touch", 30, 3 * PAGE, value))
            pool.read(lambda guest: guest.call("touch", 200, PAGE, -1))
            assert pool.read(lambda guest: [guest.call("peek", 3 * PAGE * at) for at in range(30)]) == [value] * 30
            assert pool.stats().last_commit_pages == 30


# -- leaks -----------------------------------------------------------------------------------------------------------------


def _resources() -> tuple[int, int, int]:
    gc.collect()
    with open("/proc/self/maps") as maps, open("/proc/self/statm") as statm:
        return len(os.listdir("/proc/self/fd")), len(maps.readlines()), int(statm.read().split()[1]) * PAGE


def test_ten_thousand_commits_leak_nothing() -> None:
    with open_pool(64, replicas=4, min_replicas=1) as pool:

        def some(count: int) -> None:
            for number in range(count):
                pool.write(lambda guest, number=number: guest.call("touch", 20, PAGE, number))
                pool.read(lambda guest: guest.call("touch", 30, PAGE, 1))
                if number % 50 == 0:
                    with pytest.raises(ZeroDivisionError):
                        pool.write(lambda guest: (guest.call("grow", 1), 1 / 0))
                    with pytest.raises(ZeroDivisionError):
                        pool.read(lambda guest: (guest.call("grow", 1), 1 / 0))
                if number % 500 == 0:
                    with pool.branch() as branch:
                        branch.write(lambda guest: guest.call("poke", 0, -5))
                    pool.resize(1 + number % 4)

        some(1000)
        before = _resources()
        some(9000)
        after = _resources()
    assert after[0] <= before[0]
    assert after[1] <= before[1] + 40
    assert after[2] <= before[2] + (8 << 20)


def test_closed_pools_give_everything_back() -> None:
    def one() -> None:
        with open_pool(64, replicas=3) as pool:
            pool.write(lambda guest: guest.call("touch", 500, PAGE, 1))
            pool.read(lambda guest: guest.call("peek", 0))

    for _ in range(5):
        one()
    before = _resources()
    for _ in range(50):
        one()
    after = _resources()
    assert after[0] <= before[0]
    assert after[1] <= before[1] + 40
    assert after[2] <= before[2] + (8 << 20)


# -- large memories --------------------------------------------------------------------------------------------------------


def test_a_64_bit_memory_may_move_when_it_grows() -> None:
    with open_pool(1, maximum=200_000, is_64=True, replicas=2) as pool:
        pool.write(lambda guest: guest.call("poke", 100, 5))
        for size in (1000, 60_000):
            pool.write(lambda guest, size=size: (guest.call("grow", size), guest.call("poke", 65536 * size, size)))
            assert pool.read(lambda guest, size=size: (guest.call("peek", 65536 * size), guest.call("peek", 100))) == (
                size,
                5,
            )


def _free_memory() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * PAGE


@pytest.mark.skipif(_free_memory() < 3 << 30, reason="less than 3 GiB of memory free")
def test_a_guest_larger_than_4_gib() -> None:
    pages, far = 65536 + 16, (65536 + 8) * 65536
    with open_pool(pages, maximum=200_000, is_64=True, replicas=2) as pool:
        pool.write(lambda guest: (guest.call("poke", far, 77), guest.call("poke", 8, 1)))
        assert pool.stats().last_commit_pages == 2
        assert pool.read(
            lambda guest: (guest.call("peek", far), guest.call("peek", 8), guest.call("poke", far, 0))
        ) == (77, 1, None)
        assert pool.read(lambda guest: guest.call("peek", far)) == 77
        pool.write(lambda guest: (guest.call("grow", 16), guest.call("poke", far + 16 * 65536, 78)))
        assert pool.read(lambda guest: (guest.call("peek", far), guest.call("peek", far + 16 * 65536))) == (77, 78)
        assert sum(pool.stats().private_bytes) < 1 << 20


# -- forks -----------------------------------------------------------------------------------------------------------------


def test_a_forked_child_cannot_change_the_parent() -> None:
    with open_pool(16, replicas=2) as pool:
        pool.write(lambda guest: guest.call("touch", 100, PAGE, 1))
        pool.read(lambda guest: guest.call("peek", 0))
        image = pool._core.image._memories[0]._mapping[0]  # type: ignore[attr-defined]
        leader = pool._core.leader
        assert leader is not None
        child = os.fork()
        if child == 0:
            code = 1
            signal.alarm(30)
            try:
                with open("/proc/self/maps") as maps:
                    mapped = any(
                        int(line.split("-")[0], 16) <= image < int(line.split("-")[1].split()[0], 16) for line in maps
                    )
                leader.memory_view(0)[0:4] = b"evil"
                refused = 0
                for use in (pool.read, pool.write):
                    try:
                        use(lambda guest: guest.call("poke", 0, 99))
                    except PoolForkedError:
                        refused += 1
                with Pool.open(wat(1), imports={"h": {"wait": lambda: None}}) as own:
                    own.write(lambda guest: guest.call("poke", 0, 3))
                    fresh = own.read(lambda guest: guest.call("peek", 0))
                code = 17 if (mapped, refused, fresh) == (False, 2, 3) else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 17
        assert pool.read(lambda guest: guest.call("peek", 0)) == 1
        pool.write(lambda guest: guest.call("poke", PAGE, 2))
        assert pool.read(lambda guest: (guest.call("peek", 0), guest.call("peek", PAGE))) == (1, 2)


# -- choosing --------------------------------------------------------------------------------------------------------------


def test_the_mode_can_be_chosen_and_a_fallback_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = load_engine("wasmtime")
    with pytest.raises(PoolError, match="copy-on-write"):
        memory_maker("fast", engine)  # type: ignore[arg-type]
    monkeypatch.setenv("REPLICATE_MEMORY", "copy")
    with Pool.open(wat(1), imports={"h": {"wait": lambda: None}}) as pool:
        assert pool.stats().memory_mode == "copy"
    monkeypatch.delenv("REPLICATE_MEMORY")
    monkeypatch.setattr("replicate.memory_modes.why_not_copy_on_write", lambda: "a test says so")
    monkeypatch.setattr("replicate.memory_modes._warned", False)
    with pytest.raises(PoolError, match="a test says so"):
        Pool.open(wat(1), imports={"h": {"wait": lambda: None}}, memory="copy-on-write")
    with pytest.warns(ReplicateWarning, match="a test says so") as caught:
        for _ in range(2):
            with Pool.open(wat(1), imports={"h": {"wait": lambda: None}}) as pool:
                assert pool.stats().memory_mode == "copy"
    assert len(caught) == 1


def test_a_memory_with_small_pages_is_copied() -> None:
    text = """(module (memory (export "memory") 5000 9000 (pagesize 1)) (memory 1)
        (func (export "poke") (param i32) (i32.store8 (i32.const 4999) (local.get 0)))
        (func (export "peek") (result i32) (i32.load8_u (i32.const 4999))) (func (export "grow") (drop (memory.grow (i32.const 3)))))"""
    with Pool.open(text, memory="copy-on-write", replicas=1) as pool:
        pool.write(lambda guest: (guest.call("poke", 9), guest.call("grow")))
        assert pool.read(lambda guest: (guest.call("peek"), guest.memory.size)) == (9, 5003)
        assert pool.stats().memory_mode == "copy+copy-on-write"


assert sys.platform == "linux" or why_not_copy_on_write() is not None
