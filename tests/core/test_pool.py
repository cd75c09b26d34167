"""What a pool promises, one behaviour a test, for threads and for asyncio."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
from typing import Any

import pytest
from subjects import CELLS, HostFailure

import replicate
from replicate import Adapter, AsyncPool, HostFunction, NotReplicableError, Pool, Snapshot, Trap
from replicate.configuration import Configuration
from replicate.errors import (
    ArityError,
    ConcurrentUseError,
    DeadHandleError,
    GuestInterruptedError,
    InvalidModuleError,
    MissingImportError,
    NestedTransactionError,
    PoolClosedError,
    PoolError,
    PoolForkedError,
    PoolTimeoutError,
    StateError,
    UnknownEngineError,
)
from replicate.pool_state import LEAST_PASSES
from replicate_kv import KeyValueAdapter

COUNTER = """(module (memory (export "memory") 1) (global $n (mut i32) (i32.const 0))
  (func (export "bump") (result i32) (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n))
  (func (export "n") (result i32) (global.get $n))
  (func (export "store") (param i32 i32) (i32.store (local.get 0) (local.get 1)))
  (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
  (func (export "self") (result funcref) (ref.func 0))
  (func (export "boom") (global.set $n (i32.const 99)) unreachable))"""

WAITING = """(module (import "h" "wait" (func $wait (param i32))) (memory (export "memory") 1)
  (func (export "wait") (param i32) (call $wait (local.get 0)))
  (func (export "set") (param i32) (i32.store (i32.const 0) (local.get 0)))
  (func (export "get") (result i32) (i32.load (i32.const 0))))"""


class Turnstile:
    """Let a test hold guests inside a host function, and see that they're there."""

    def __init__(self) -> None:
        self.inside = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def wait(self, number: int) -> None:
        self.inside.release()
        assert self.go.acquire(timeout=30)

    @property
    def imports(self) -> Any:
        return {"h": {"wait": self.wait}}


def in_thread(fn: Any, *args: Any) -> Any:
    """Run in a thread; `join` gives the result or raises."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((fn(*args), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()

    def join() -> Any:
        thread.join(30)
        assert outcome, "still running"
        result, error = outcome[0]
        if error is not None:
            raise error
        return result

    return join


# -- P2, P3, P5 ------------------------------------------------------------------------------------------------------------


def test_a_read_sees_the_write_before_it(open_pool: Any) -> None:
    pool = open_pool(COUNTER, replicas=3)
    for expected in range(1, 20):
        assert expected == pool.write(lambda guest: guest.call("bump"))
        assert [expected] * 3 == [pool.read(lambda guest: guest.call("n")) for _ in range(3)]


def test_a_failed_write_leaves_nothing_and_raises_as_it_was(open_pool: Any) -> None:
    pool = open_pool(COUNTER, replicas=2)
    before = pool.snapshot()
    error = LookupError("mine")

    def fail(guest: Any) -> None:
        guest.call("bump")
        guest.memory.write(0, b"x")
        guest.memory.grow(3)
        guest.state["k"] = 1
        raise error

    with pytest.raises(LookupError) as caught:
        pool.write(fail)
    assert caught.value is error
    with pytest.raises(Trap):
        pool.write(lambda guest: guest.call("boom"))
    assert before == pool.snapshot()
    assert pool.version == 0
    with pool.writing() as guest:
        assert (guest.call("n"), guest.memory.size, dict(guest.state)) == (0, 65536, {})
    assert pool.stats().rollbacks == 2


def test_a_host_functions_exception_rolls_a_write_back(open_pool: Any) -> None:
    def fail() -> None:
        raise HostFailure

    pool = open_pool(CELLS, replicas=1, imports={"host": {"fail": fail}})
    with pytest.raises(HostFailure):
        pool.write(lambda guest: guest.call("spoil_by_host"))
    assert pool.read(lambda guest: guest.call("look", 0))[0] == 0


def test_no_read_sees_what_another_changed(open_pool: Any) -> None:
    pool = open_pool(COUNTER, replicas=1)
    for _ in range(3):
        assert pool.read(lambda guest: guest.call("bump")) == 1


def test_the_cheaper_rule_keeps_a_reads_changes_until_the_next_commit(open_pool: Any) -> None:
    pool = open_pool(COUNTER, replicas=1, reset="on_commit")
    assert [pool.read(lambda guest: guest.call("bump")) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(Trap):
        pool.read(lambda guest: guest.call("boom"))
    assert pool.read(lambda guest: guest.call("n")) == 0
    pool.read(lambda guest: guest.call("bump"))
    pool.write(lambda guest: guest.call("store", 0, 1))
    assert pool.read(lambda guest: guest.call("n")) == 0


def test_host_state_commits_rolls_back_and_replicates(open_pool: Any) -> None:
    pool = open_pool(COUNTER, replicas=2, init=lambda guest: guest.state.update(names=["a"]))

    def add(guest: Any) -> None:
        guest.state["names"].append("b")

    pool.write(add)
    with pytest.raises(ZeroDivisionError):
        pool.write(lambda guest: (guest.state["names"].append("c"), 1 / 0))
    pool.read(lambda guest: guest.state["names"].append("d"))
    for _ in range(3):
        assert pool.read(lambda guest: list(guest.state["names"])) == ["a", "b"]


def test_a_kept_mutable_value_is_no_way_into_the_state(open_pool: Any) -> None:
    pool = open_pool(COUNTER, replicas=1, init=lambda guest: guest.state.update(names=["a"]))
    kept = pool.write(lambda guest: guest.state["names"])
    kept.append("late")
    pool.write(lambda guest: guest.call("bump"))
    assert pool.read(lambda guest: guest.state["names"]) == ["a"]


@pytest.mark.parametrize("value", [object(), {1: 2}, {1, 2}, [[object()]], bytearray(b"x"), threading.Lock()])
def test_state_that_cannot_be_carried_is_refused_at_the_commit(open_pool: Any, value: Any) -> None:
    pool = open_pool(COUNTER, replicas=1)
    with pytest.raises(StateError, match="thing"):
        pool.write(lambda guest: (guest.call("bump"), guest.state.__setitem__("thing", value)))
    assert pool.read(lambda guest: (guest.call("n"), dict(guest.state))) == (0, {})


# -- P4 --------------------------------------------------------------------------------------------------------------------


def test_a_running_read_keeps_its_version_and_stops_nobody(open_pool: Any) -> None:
    gate = Turnstile()
    pool = open_pool(WAITING, replicas=2, imports=gate.imports)

    def slow(guest: Any) -> Any:
        first = guest.call("get")
        guest.call("wait", 0)
        return first, guest.call("get")

    join = in_thread(pool.read, slow)
    assert gate.inside.acquire(timeout=30)
    pool.write(lambda guest: guest.call("set", 5), timeout=30)
    assert pool.read(lambda guest: guest.call("get"), timeout=30) == 5
    gate.go.release()
    assert join() == (0, 0)
    assert pool.read(lambda guest: guest.call("get")) == 5


def test_reads_do_not_wait_for_a_running_write(open_pool: Any) -> None:
    gate = Turnstile()
    pool = open_pool(WAITING, replicas=1, imports=gate.imports)
    join = in_thread(pool.write, lambda guest: (guest.call("set", 5), guest.call("wait", 0)))
    assert gate.inside.acquire(timeout=30)
    for _ in range(5):
        assert pool.read(lambda guest: guest.call("get"), timeout=30) == 0
    gate.go.release()
    join()
    assert pool.read(lambda guest: guest.call("get")) == 5


def test_writers_wait_their_turn_and_can_give_up(open_pool: Any) -> None:
    gate = Turnstile()
    pool = open_pool(WAITING, replicas=1, imports=gate.imports, name="turns")
    join = in_thread(pool.write, lambda guest: guest.call("wait", 0))
    assert gate.inside.acquire(timeout=30)
    with pytest.raises(
        PoolTimeoutError, match=r"leader of pool 'turns' wasn't free within 0.05 s; .*writers_waiting=1"
    ):
        pool.write(lambda guest: guest.call("set", 1), timeout=0.05)
    gate.go.release()
    join()
    pool.write(lambda guest: guest.call("set", 2), timeout=30)
    assert pool.version == 2


def test_a_read_that_finds_no_replica_in_time_says_who_has_them(open_pool: Any) -> None:
    gate = Turnstile()
    pool = open_pool(WAITING, replicas=1, imports=gate.imports, name="busy")
    join = in_thread(pool.read, lambda guest: guest.call("wait", 0))
    assert gate.inside.acquire(timeout=30)
    with pytest.raises(
        PoolTimeoutError, match=r"of pool 'busy' was.* free within 0.05 s; replicas=1 idle=0 readers_waiting=1"
    ):
        pool.read(lambda guest: None, timeout=0.05)
    gate.go.release()
    join()
    assert pool.read(lambda guest: guest.call("get"), timeout=30) == 0
    assert pool.stats().readers_waiting == 0


# -- P6, P9 ----------------------------------------------------------------------------------------------------------------


def test_a_handle_is_dead_after_its_transaction(open_pool: Any) -> None:
    pool = open_pool(COUNTER, replicas=1)
    kept: dict[str, Any] = {}

    def keep(guest: Any) -> None:
        kept.update(
            guest=guest, memory=guest.memory, state=guest.state, put=guest.exports["store"], ref=guest.call("self")
        )
        assert kept["ref"]() == 1

    for transaction in (pool.read, pool.write):
        transaction(keep)
        uses = [
            lambda: kept["guest"].call("n"),
            lambda: kept["guest"].memory,
            lambda: kept["memory"].read(0, 1),
            lambda: kept["memory"].write(0, b"x"),
            lambda: kept["memory"].size,
            lambda: kept["state"].get("x"),
            lambda: kept["state"].__setitem__("x", 1),
            lambda: kept["put"](0, 1),
            lambda: kept["ref"](),
            lambda: kept["guest"].exports,
            lambda: kept["guest"].local,
        ]
        for use in uses:
            with pytest.raises(DeadHandleError):
                use()
        assert "dead" in repr(kept["guest"])


@pytest.mark.parametrize("outer", ["reading", "writing"])
@pytest.mark.parametrize("inner", ["reading", "writing"])
def test_a_transaction_inside_another_raises_at_once(open_pool: Any, outer: str, inner: str) -> None:
    pool = open_pool(COUNTER, replicas=1)
    with pytest.raises(NestedTransactionError):
        pool.nested(outer, inner)
    pool.write(lambda guest: guest.call("bump"), timeout=30)
    assert pool.read(lambda guest: guest.call("n"), timeout=30) == 1


def test_a_pool_called_from_its_own_guest_raises_at_once() -> None:
    with Pool.open(WAITING, replicas=1, imports={"h": {"wait": lambda number: pool.read(lambda guest: None)}}) as pool:
        with pytest.raises(NestedTransactionError):
            pool.read(lambda guest: guest.call("wait", 0))
        with pytest.raises(NestedTransactionError):
            pool.write(lambda guest: guest.call("wait", 0))


def test_two_pools_may_be_used_inside_each_other() -> None:
    with Pool.open(COUNTER, replicas=1) as one, Pool.open(COUNTER, replicas=1) as two:
        assert one.read(lambda guest: two.write(lambda other: other.call("bump"))) == 1


def test_a_guest_left_running_in_another_thread_costs_its_replica_only() -> None:
    gate = Turnstile()
    with Pool.open(WAITING, replicas=1, imports=gate.imports) as pool:
        with pool.reading() as guest:
            join = in_thread(guest.call, "wait", 0)
            assert gate.inside.acquire(timeout=30)
            with pytest.raises(ConcurrentUseError):
                guest.call("get")
        assert pool.read(lambda guest: guest.call("get"), timeout=30) == 0
        with pytest.raises(ConcurrentUseError):
            with pool.writing() as guest:
                join_write = in_thread(guest.call, "wait", 0)
                assert gate.inside.acquire(timeout=30)
        gate.go.release(2)
        for left_running in (join, join_write):
            with pytest.raises(GuestInterruptedError, match="transaction has ended"):
                left_running()
        pool.write(lambda guest: guest.call("set", 3), timeout=30)
        assert pool.read(lambda guest: guest.call("get")) == 3
        assert pool.stats().spawns == 2


# -- P8 --------------------------------------------------------------------------------------------------------------------


def test_a_replica_that_trapped_or_grew_is_as_good_as_new(open_pool: Any) -> None:
    pool = open_pool(COUNTER, replicas=1, reset="on_commit")
    for _ in range(3):
        with pytest.raises(Trap):
            pool.read(lambda guest: (guest.memory.grow(2), guest.call("boom")))
        assert pool.read(lambda guest: (guest.call("n"), guest.memory.size)) == (0, 65536)


def test_resizing_takes_effect_while_reads_run(open_pool: Any) -> None:
    gate = Turnstile()
    pool = open_pool(WAITING, replicas=2, imports=gate.imports)
    joins = [in_thread(pool.read, lambda guest: (guest.call("wait", 0), guest.call("get"))) for _ in range(2)]
    for _ in range(2):
        assert gate.inside.acquire(timeout=30)
    pool.resize(1)
    assert pool.replicas == 1
    with pytest.raises(PoolTimeoutError):
        pool.read(lambda guest: None, timeout=0.02)
    pool.resize(3)
    assert pool.read(lambda guest: guest.call("get"), timeout=30) == 0
    gate.go.release(2)
    assert [join()[1] for join in joins] == [0, 0]
    pool.resize(1)
    assert pool.stats().made <= 1
    assert pool.read(lambda guest: guest.call("get")) == 0


@pytest.mark.parametrize("replicas", [0, -1, 1.5, True, "2"])
def test_a_pool_has_at_least_one_replica(replicas: Any) -> None:
    with pytest.raises(PoolError, match="replicas is"):
        Pool.open(COUNTER, replicas=replicas)
    with Pool.open(COUNTER, replicas=1) as pool, pytest.raises(PoolError, match="replicas is"):
        pool.resize(replicas)


# -- opening and closing ---------------------------------------------------------------------------------------------------


def test_a_closed_pool_says_so_and_wakes_who_waits(open_pool: Any) -> None:
    gate = Turnstile()
    pool = open_pool(WAITING, replicas=1, imports=gate.imports)
    running = in_thread(pool.read, lambda guest: (guest.call("wait", 0), guest.call("get")))
    assert gate.inside.acquire(timeout=30)
    waiting = in_thread(pool.read, lambda guest: guest.call("get"))
    while not pool.stats().readers_waiting:
        time.sleep(0.001)
    closing = in_thread(pool.close)
    with pytest.raises(PoolClosedError):
        waiting()
    gate.go.release()
    assert running() == (None, 0), "what runs ends undisturbed"
    closing()
    for use in (lambda: pool.read(lambda guest: None), lambda: pool.write(lambda guest: None), pool.snapshot):
        with pytest.raises(PoolClosedError):
            use()
    assert "closed" in repr(pool.pool)
    assert pool.core.instances == {}
    assert pool.core.leader is None


def test_the_leader_alone_is_started() -> None:
    calls: list[str] = []

    class Ours(Adapter):
        name = "ours"

        def source(self) -> str:
            return """(module (import "h" "log" (func $log (param i32))) (memory (export "memory") 1)
                (func $s (call $log (i32.const 1)) (i32.store (i32.const 0) (i32.const 7))) (start $s)
                (func (export "_initialize") (call $log (i32.const 2)))
                (func (export "_start") (call $log (i32.const 3)))
                (func (export "get") (result i32) (i32.load (i32.const 0))))"""

        def imports(self) -> Any:
            return {"h": {"log": lambda number: calls.append(str(number))}}

        def start(self, guest: Any) -> None:
            calls.append("adapter")

        def moved(self, guest: Any, version: int) -> None:
            calls.append(f"moved {version}")

    with Pool.open(Ours(), replicas=1, init=lambda guest: calls.append("init"), run_start=True) as pool:
        assert pool.name == "ours"
        assert calls == ["1", "2", "3", "adapter", "init", "moved 0"]
        assert pool.read(lambda guest: guest.call("get")) == 7
        assert set(calls[5:]) == {"moved 0"}


def test_wrong_sources_and_names_are_refused(tmp_path: Any) -> None:
    with pytest.raises(InvalidModuleError, match="can't read"):
        Pool.open(tmp_path / "none.wasm")
    with pytest.raises(InvalidModuleError):
        Pool.open(b"\0asm\1\0\0")
    with pytest.raises(UnknownEngineError, match="wasmtime"):
        Pool.open(COUNTER, engine="nope")
    with pytest.raises(MissingImportError, match=r"h\.wait"):
        Pool.open(WAITING)
    with pytest.raises(PoolError, match="on_commit"):
        Pool.open(COUNTER, reset="sometimes")  # type: ignore[arg-type]
    with pytest.raises(NotReplicableError, match="shared"):
        Pool.open("(module (memory 1 1 shared))")


def test_an_error_in_init_is_raised_as_it_was() -> None:
    def fail(guest: Any) -> None:
        guest.call("n", 1)

    with pytest.raises(ArityError):
        Pool.open(COUNTER, init=fail)


def test_live_host_references_are_refused_at_the_commit_that_made_them(open_pool: Any) -> None:
    wat = """(module (global $g (mut externref) (ref.null extern)) (global $n (mut i32) (i32.const 0))
        (func (export "keep") (param externref) (global.set $g (local.get 0)) (global.set $n (i32.const 1)))
        (func (export "n") (result i32) (global.get $n)))"""
    pool = open_pool(wat, replicas=1)
    with pytest.raises(NotReplicableError, match="global 0") as caught:
        pool.write(lambda guest: guest.call("keep", object()))
    assert len(caught.value.findings) == 1
    assert pool.read(lambda guest: guest.call("n")) == 0
    pool.write(lambda guest: guest.call("keep", None))
    assert pool.read(lambda guest: guest.call("n")) == 1


def test_the_key_value_guest_is_an_adapter_like_any() -> None:
    with Pool.open(replicate.load_adapter("kv")(), replicas=2) as pool:
        pool.write(lambda guest: guest.call("put", 1, 42))
        assert pool.read(lambda guest: guest.call("get", 1)) == 42
        draws = {pool.read(lambda guest: guest.call("draw")) for _ in range(5)}
        assert len(draws) == 5, "replicas draw random numbers of their own"
    assert isinstance(KeyValueAdapter.name, str)


def test_a_snapshot_of_a_pool_restores_on_an_instance(open_pool: Any) -> None:
    pool = open_pool(COUNTER, replicas=1)
    pool.write(lambda guest: (guest.call("bump"), guest.call("store", 8, 9), guest.state.update(a=(1, b"x", None))))
    snapshot = Snapshot.from_bytes(pool.snapshot().to_bytes())
    with replicate.load_engine("wasmtime").compile(COUNTER).instantiate() as instance:
        instance.restore(snapshot)
        assert (instance.call("n"), instance.call("load", 8), instance.state) == (1, 9, {"a": (1, b"x", None)})
        assert instance.snapshot() == snapshot


def test_host_functions_see_the_transactions_guest(open_pool: Any) -> None:
    def log(guest: Any, number: int) -> None:
        guest.state["log"] = [*guest.state.get("log", []), number]
        guest.memory.pack("<i", 0, number)

    pool = open_pool(WAITING, replicas=1, imports={"h": {"wait": HostFunction(log, caller=True)}})
    pool.write(lambda guest: guest.call("wait", 4))
    with pytest.raises(Trap):
        pool.write(lambda guest: (guest.call("wait", 5), guest.call("nope")) if False else _trap(guest))
    assert pool.read(lambda guest: (guest.call("get"), guest.state["log"])) == (4, [4])


def _trap(guest: Any) -> None:
    guest.call("wait", 5)
    raise Trap("ours")


# -- P10, P11 --------------------------------------------------------------------------------------------------------------


def test_the_cost_is_visible(open_pool: Any) -> None:
    pool = open_pool(COUNTER, replicas=2, name="costs")
    pool.write(lambda guest: guest.call("bump"))
    pool.read(lambda guest: None)
    stats = pool.stats()
    assert (stats.name, stats.version, stats.commits, stats.reads, stats.replicas) == ("costs", 1, 1, 1, 2)
    assert stats.state_bytes == 65536
    assert stats.memory_mode in ("copy", "copy-on-write", "log")
    assert stats.engine.startswith("wasmtime ")
    with pytest.raises(AttributeError):
        stats.version = 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_finds_the_pool_dead() -> None:
    with Pool.open(COUNTER, replicas=1) as pool:
        pool.write(lambda guest: guest.call("bump"))
        child = os.fork()
        if child == 0:
            try:
                pool.write(lambda guest: guest.call("bump"))
            except PoolForkedError:
                os._exit(17)
            except BaseException:
                os._exit(2)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 17
        assert pool.read(lambda guest: guest.call("n")) == 1


def test_a_commit_minds_no_replica_that_was_lost_in_its_read() -> None:
    """Between losing the instance and telling the state so, another thread's commit finds a running read without one."""
    with Pool.open(COUNTER, replicas=2) as pool:
        core = pool._core
        right, committed = core._discard, []

        def discard(number: int) -> None:
            right(number)
            writer = threading.Thread(target=lambda: committed.append(pool.write(lambda guest: 1)))
            writer.start()
            writer.join(60)

        core._discard = discard  # type: ignore[method-assign]
        with pool.reading() as guest:
            instance = guest._instance
            assert instance is not None
            assert instance.gate.enter()
        instance.gate.leave()
        assert committed == [1]
        assert pool.version == 1


def test_a_pool_that_cant_be_opened_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    right = Configuration.create

    def create(self: Configuration) -> Any:
        if len(made) == 4:
            raise MemoryError("no more")
        made.append(right(self))
        return made[-1]

    monkeypatch.setattr(Configuration, "create", create)
    with pytest.raises(MemoryError, match="no more"):
        Pool.open(COUNTER, replicas=8)
    assert len(made) == 4
    for instance in made:
        with pytest.raises(DeadHandleError):
            instance.snapshot()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there's no fork here")
def test_a_pool_in_a_forked_child_never_hangs_whoever_held_its_locks() -> None:
    with Pool.open(COUNTER, replicas=1) as pool:
        with pool._core.lock:
            child = os.fork()
            if child == 0:
                signal.alarm(20)
                try:
                    for ask in (pool.stats, pool.snapshot, lambda: pool.read(lambda guest: 1), lambda: pool.resize(2)):
                        try:
                            ask()
                            os._exit(1)
                        except PoolForkedError:
                            pass
                    pool.close()
                    repr(pool)
                    os._exit(0)
                finally:
                    os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        assert pool.read(lambda guest: 3) == 3


def test_handles_let_one_thread_at_a_time_in() -> None:
    """Otherwise one thread could use what another frees, or the next transaction's state."""
    with Pool.open(COUNTER, replicas=1) as pool, pool.reading() as guest:
        memory, number = guest.memory, guest.globals[0]
        instance = guest._instance
        assert instance is not None
        assert instance.gate.enter()
        for use in (
            lambda: memory.read(0, 4),
            lambda: memory.write(0, b"x"),
            lambda: memory.size,
            lambda: memory.grow(1),
            lambda: memory.unpack("<i", 0),
            lambda: number.value,
        ):
            with pytest.raises(ConcurrentUseError):
                use()
        instance.gate.leave()
        assert memory.read(0, 4) == b"\0\0\0\0"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there's no fork here")
def test_a_forked_child_that_forgets_the_parents_pool_harms_no_pool_of_its_own() -> None:
    large = COUNTER.replace('(export "memory") 1', '(export "memory") 16')
    pool = Pool.open(large, replicas=1)
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        try:
            own = Pool.open(large, replicas=1)
            del pool
            gc.collect()
            own.write(lambda guest: guest.call("store", 0, 5))
            os._exit(0 if own.read(lambda guest: guest.call("load", 0)) == 5 else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    pool.close()


def test_a_job_that_no_thread_can_be_started_for_is_undone_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with AsyncPool.open(COUNTER, replicas=1) as pool:
            # The first job of all takes the only thread there is: what comes next needs another.
            begun, busy = asyncio.Event(), threading.Event()
            loop = asyncio.get_running_loop()
            held = asyncio.create_task(pool.read(lambda guest: (loop.call_soon_threadsafe(begun.set), busy.wait(60))))
            await begun.wait()
            right = threading.Thread.start

            def start(self: threading.Thread) -> None:
                raise RuntimeError("can't start new thread")

            try:
                monkeypatch.setattr(threading.Thread, "start", start)
                with pytest.raises(PoolError, match="can't start a thread"):
                    await pool.write(lambda guest: guest.call("store", 0, 99))
            finally:
                monkeypatch.setattr(threading.Thread, "start", right)
                busy.set()
            await pool.write(lambda guest: guest.call("store", 4, 2))
            await held
            assert await pool.read(lambda guest: (guest.call("load", 0), guest.call("load", 4))) == (0, 2)
            assert pool.version == 1

    asyncio.run(main())


# -- resting ---------------------------------------------------------------------------------------------------------------


def test_writes_that_pass_a_long_read_rest_in_vain_once_and_then_more_rarely(open_pool: Any) -> None:
    turnstile = Turnstile()
    pool = open_pool(WAITING, imports=turnstile.imports, replicas=2)
    reading = in_thread(lambda: pool.read(lambda guest: guest.call("wait", 1)))
    assert turnstile.inside.acquire(timeout=30)
    state = pool.core.state
    for _ in range(2 * LEAST_PASSES):
        pool.write(lambda guest: guest.call("set", 1))
    assert (state.passes, state.passed, len(state.resters), state.resuming) == (2 * LEAST_PASSES, False, 0, {})
    turnstile.go.release()
    reading()


def test_who_rests_goes_on_when_one_that_was_passed_ends(open_pool: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(replicate.core, "_REST_SECONDS", 30)
    turnstile = Turnstile()
    pool = open_pool(WAITING, imports=turnstile.imports, replicas=2)
    reading = in_thread(lambda: pool.read(lambda guest: guest.call("wait", 1)))
    assert turnstile.inside.acquire(timeout=30)
    state = pool.core.state
    writing = in_thread(lambda: [pool.write(lambda guest: guest.call("set", 1)) for _ in range(2 * LEAST_PASSES)])
    deadline = time.monotonic() + 20
    while not state.resters:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    turnstile.go.release()
    reading()
    writing()
    assert (state.passes, state.passed, len(state.resters), state.resuming) == (LEAST_PASSES, False, 0, {})
