"""A pool that starts from a snapshot is, bit for bit, where the snapshot was taken, and has run nothing to get there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from subjects import CELLS

import replicate
from replicate import NotReplicableError, Pool, Snapshot, Wasi
from replicate.errors import PoolError, SnapshotError, SnapshotFormatError, SnapshotMismatchError
from replicate_kv import KeyValueAdapter

STARTS = """(module (import "host" "note" (func $note (param i32)))
  (memory (export "memory") 1) (global $n (mut i32) (i32.const 0))
  (start $start) (func $start (call $note (i32.const 1)))
  (func (export "_initialize") (call $note (i32.const 2)))
  (func (export "_start") (call $note (i32.const 3)))
  (func (export "bump") (result i32) (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n)))"""


def nothing() -> None:
    pass


HOST = {"host": {"fail": nothing}}


def fill(guest: Any) -> None:
    guest.call("set", 3, 77)
    guest.call("point", 1, 1)
    guest.call("extend")
    guest.call("drop")
    guest.call("grow", 2)
    guest.state.update(a=[1, 2.5, None], b={"c": b"x"})


def take() -> Snapshot:
    with replicate.load_engine().compile(CELLS).instantiate(HOST) as instance:
        fill(instance.guest)
        return instance.snapshot()


@pytest.mark.parametrize("memory", ["auto", "copy"])
def test_version_0_is_the_snapshot(open_pool: Any, memory: str) -> None:
    taken = take()

    pool = open_pool(CELLS, replicas=2, imports=HOST, memory=memory, snapshot=taken)

    assert (0, taken) == (pool.version, pool.snapshot())
    seen = pool.read(
        lambda guest: (guest.call("look", 3), guest.call("target", 1), guest.state["b"], guest.memory.size)
    )
    assert ((77, 77, 1, 0x7FA00001), 2, {"c": b"x"}, 3 * 65536) == seen


def test_it_goes_on_from_there_and_rolls_back_to_it(open_pool: Any) -> None:
    taken = take()
    pool = open_pool(CELLS, replicas=1, imports=HOST, snapshot=taken)

    with pytest.raises(replicate.Trap):
        pool.write(lambda guest: guest.call("spoil"))
    assert taken == pool.snapshot()

    assert 2 == pool.write(lambda guest: guest.call("set", 3, 78))
    assert 78 == pool.read(lambda guest: guest.call("look", 3)[0])
    assert taken == take(), "what it started from is a value, and stays as it was"


def test_a_saved_snapshot_is_opened_by_its_path(tmp_path: Path) -> None:
    with Pool.open(KeyValueAdapter(), replicas=1) as pool:
        pool.write(lambda guest: guest.call("put", 1, 42))
        pool.snapshot().save(tmp_path / "state.snap")

    for path in (tmp_path / "state.snap", str(tmp_path / "state.snap")):
        with Pool.open(KeyValueAdapter(), replicas=1, snapshot=path) as pool:
            assert 42 == pool.read(lambda guest: guest.call("get", 1))


def test_nothing_is_run() -> None:
    notes: list[int] = []
    imports = {"host": {"note": notes.append}}
    with Pool.open(STARTS, replicas=1, imports=imports) as pool:
        pool.write(lambda guest: guest.call("bump"))
        taken = pool.snapshot()
    assert [1, 2] == notes

    with Pool.open(STARTS, replicas=1, imports=imports, snapshot=taken) as pool:
        assert 2 == pool.read(lambda guest: guest.call("bump"))
    assert [1, 2] == notes


@pytest.mark.parametrize("options", [{"init": lambda guest: None}, {"run_start": True}])
def test_what_would_not_be_run_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(PoolError, match="in a first write"):
        Pool.open(CELLS, replicas=1, imports=HOST, snapshot=take(), **options)


def test_a_snapshot_of_another_binary_is_refused(open_pool: Any) -> None:
    with pytest.raises(SnapshotMismatchError, match="another module"):
        open_pool('(module (memory (export "memory") 1))', replicas=1, snapshot=take())


def test_an_altered_snapshot_is_refused(open_pool: Any) -> None:
    with pytest.raises(SnapshotMismatchError, match="altered"):
        open_pool(CELLS, replicas=1, imports=HOST, snapshot=attrs.evolve(take(), globals=()))


def test_a_snapshot_that_is_larger_than_allowed_is_refused(open_pool: Any) -> None:
    with pytest.raises(SnapshotMismatchError, match="can't have more than 65536"):
        open_pool(CELLS, replicas=1, imports=HOST, snapshot=take(), max_memory=65536)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "no.snap").write_bytes(b"hello" * 100)

    with pytest.raises(SnapshotFormatError, match=r"no\.snap"):
        Pool.open(CELLS, imports=HOST, snapshot=tmp_path / "no.snap")
    with pytest.raises(SnapshotError, match=r"missing\.snap"):
        Pool.open(CELLS, imports=HOST, snapshot=tmp_path / "missing.snap")


def test_wasi_descriptors_that_cannot_be_opened_here_are_refused(tmp_path: Path) -> None:
    module = """(module (import "wasi_snapshot_preview1" "fd_fdstat_get" (func $look (param i32 i32) (result i32)))
      (memory (export "memory") 1) (func (export "look") (result i32) (call $look (i32.const 3) (i32.const 0))))"""
    (tmp_path / "here").mkdir()
    with Pool.open(module, replicas=1, wasi=Wasi(preopens={"/here": tmp_path / "here"})) as pool:
        assert 0 == pool.write(lambda guest: guest.call("look"))
        taken = pool.snapshot()

    with pytest.raises(NotReplicableError, match="'/here', which this configuration doesn't have"):
        Pool.open(module, replicas=1, wasi=Wasi(), snapshot=taken)


def test_a_branch_of_it_is_like_any(open_pool: Any) -> None:
    taken = take()
    if open_pool(CELLS, replicas=1, imports=HOST, snapshot=taken).pool.__class__ is not Pool:
        pytest.skip("branches of AsyncPool have tests of their own")
    with open_pool(CELLS, replicas=1, imports=HOST, snapshot=taken).pool.branch() as branch:
        assert taken == branch.snapshot()
