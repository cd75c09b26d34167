"""Branches, memories that aren't shared, and pools that grow and shrink by need."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from drivers import DRIVERS, AsyncDriver, _Loop

from replicate import Pool
from replicate.errors import Finding, NotReplicableError, PoolError

SCRATCH = """(module (memory (export "memory") 1) (memory $scratch (export "scratch") 1 10) (data (memory $scratch) (i32.const 0) "abcd")
  (func (export "poke") (param i32) (i32.store (i32.const 0) (local.get 0)))
  (func (export "peek") (result i32) (i32.load (i32.const 0)))
  (func (export "scribble") (param i32) (i32.store $scratch (i32.const 0) (local.get 0)))
  (func (export "scratch_value") (result i32) (i32.load $scratch (i32.const 0)))
  (func (export "grow_scratch") (result i32) (memory.grow $scratch (i32.const 1)))
  (func (export "both") (param i32) (i32.store (i32.const 0) (local.get 0)) (i32.store $scratch (i32.const 0) (local.get 0))))"""

ABCD = int.from_bytes(b"abcd", "little")


def peek(guest: Any) -> Any:
    return guest.call("peek")


@pytest.mark.parametrize("driver", sorted(DRIVERS))
@pytest.mark.parametrize("memory", ["auto", "copy"])
def test_a_branch_starts_where_the_pool_is_and_goes_its_own_way(driver: str, memory: str) -> None:
    pool = DRIVERS[driver](SCRATCH, replicas=2, memory=memory, name="trunk")
    try:
        pool.write(lambda guest: (guest.call("poke", 5), guest.state.update(a=1), guest.memory.grow(1)))
        branch = _Loop.run(pool.pool.branch()) if driver == "asyncio" else pool.pool.branch()
        if driver == "asyncio":
            wrapped = object.__new__(AsyncDriver)
            wrapped.pool, wrapped.core = branch, branch._core
            branch = wrapped
        assert branch.name.startswith("trunk-branch-")
        assert (branch.version, branch.replicas) == (0, 2)
        branch.write(lambda guest: (guest.call("poke", 6), guest.state.update(a=2), guest.memory.grow(1)))
        pool.write(lambda guest: guest.call("poke", 7))
        assert branch.read(lambda guest: (peek(guest), guest.state["a"], guest.memory.size)) == (6, 2, 3 * 65536)
        assert pool.read(lambda guest: (peek(guest), guest.state["a"], guest.memory.size)) == (7, 1, 2 * 65536)
        branch.close()
        assert pool.read(peek) == 7
    finally:
        pool.close()


@pytest.mark.parametrize("key", ["scratch", 1])
@pytest.mark.parametrize("memory", ["auto", "copy"])
def test_a_memory_that_is_not_shared_belongs_to_each_instance(key: Any, memory: Any) -> None:
    with Pool.open(
        SCRATCH, replicas=1, share={key: False}, memory=memory, init=lambda guest: guest.call("both", 3)
    ) as pool:
        value = pool.read(lambda guest: (peek(guest), guest.call("scratch_value")))
        assert value == (3, ABCD), "it starts as the module makes it, whatever the leader's start did"
        pool.write(lambda guest: guest.call("both", 4))
        for _ in range(2):
            assert pool.read(lambda guest: (peek(guest), guest.call("scratch_value"))) == (4, ABCD)
            pool.read(lambda guest: (guest.call("scribble", 9), guest.call("grow_scratch")))
        stats = pool.stats()
        assert stats.private_memories == (1,)
        if stats.memory_mode == "copy-on-write":
            assert stats.last_commit_pages == 1, "commits pay for what is shared"
        assert pool.snapshot().memories[1].runs[0][1][:4] == b"abcd"


def test_under_the_cheaper_rule_a_replica_keeps_its_scratch_memory() -> None:
    with Pool.open(SCRATCH, replicas=1, share={"scratch": False}, reset="on_commit") as pool:
        pool.read(lambda guest: guest.call("scribble", 9))
        assert pool.read(lambda guest: guest.call("scratch_value")) == 9
        pool.write(lambda guest: guest.call("poke", 1))
        assert pool.read(lambda guest: (peek(guest), guest.call("scratch_value"))) == (1, 9)
        with pytest.raises(ZeroDivisionError):
            pool.read(lambda guest: 1 / 0)
        assert pool.read(lambda guest: guest.call("scratch_value")) == ABCD


def test_share_names_what_there_is() -> None:
    with pytest.raises(PoolError, match="'scratch'"):
        Pool.open(SCRATCH, share={"nope": False})


def test_replicas_are_made_on_demand_and_given_up_when_unused() -> None:
    barrier = threading.Barrier(4)
    with Pool.open(SCRATCH, replicas=8, min_replicas=1) as pool:
        assert pool.stats().made == 1
        threads = [threading.Thread(target=pool.read, args=(lambda guest: barrier.wait(30),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert pool.stats().made == 4
        for _ in range(3):
            pool.write(lambda guest: guest.call("poke", 1))
            assert pool.read(peek) == 1
        stats = pool.stats()
        assert (stats.made, stats.replicas) == (1, 8)


@pytest.mark.parametrize("least", [0, 9, True, "1"])
def test_the_least_number_of_replicas_is_checked(least: Any) -> None:
    with pytest.raises(PoolError, match="min_replicas"):
        Pool.open(SCRATCH, replicas=8, min_replicas=least)


def test_host_functions_can_have_the_state_checked_before_a_commit() -> None:
    def note() -> None:
        """Do nothing."""

    def check(state: Any) -> tuple[Finding, ...]:
        return (Finding("the number", "it is odd"),) if state.get("number", 0) % 2 else ()

    note.check_replicable = check  # type: ignore[attr-defined]
    wat = '(module (import "h" "note" (func)) (func (export "f") (result i32) i32.const 1))'
    with Pool.open(wat, imports={"h": {"note": note}}, replicas=1) as pool:
        pool.write(lambda guest: guest.state.update(number=2))
        with pytest.raises(NotReplicableError, match="it is odd"):
            pool.write(lambda guest: guest.state.update(number=3))
        assert pool.read(lambda guest: guest.state["number"]) == 2
