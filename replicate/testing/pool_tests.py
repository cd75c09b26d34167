"""What a pool promises, as tests for any engine: subclass `PoolTests` and set `engine_name`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest

from replicate.configuration import Workers
from replicate.errors import (
    DeadHandleError,
    NestedTransactionError,
    NotReplicableError,
    PoolClosedError,
    PoolTimeoutError,
    StateError,
    Trap,
    UnsupportedError,
)
from replicate.imports import HostFunction
from replicate.interfaces import Engine, EngineTraits
from replicate.pool import Pool
from replicate.registry import load_engine
from replicate.snapshot import Snapshot

__all__ = ["PoolTests"]

# Each export changes or tells one kind of state; `look` tells most of it, `spoil` changes all of it and traps.
GUEST = """(module
  (type $answer (func (result i32)))
  (import "host" "note" (func $note (param i32)))
  (import "host" "ten" (func $ten (type $answer)))
  (memory (export "memory") 1 20)
  (table $t 2 8 funcref) (elem declare func $one $two $ten) (data $d "abcd") (elem $e func $two)
  (global $n (mut i32) (i32.const 0)) (global $f (mut f32) (f32.const nan:0x200001)) (global $starts (mut i32) (i32.const 0))
  (func $start (global.set $starts (i32.add (global.get $starts) (i32.const 1))) (call $note (i32.const -1)))
  (start $start)
  (func $one (type $answer) i32.const 1)
  (func $two (type $answer) i32.const 2)
  (func (export "set") (param i32) (i32.store (i32.const 8) (local.get 0)) (global.set $n (local.get 0))
    (global.set $f (f32.reinterpret_i32 (local.get 0))))
  (func (export "get") (result i32) (i32.load (i32.const 8)))
  (func (export "look") (result i32 i32 i32 i32 i32) (i32.load (i32.const 8)) (global.get $n)
    (i32.reinterpret_f32 (global.get $f)) (memory.size) (table.size $t))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "extend") (param i32) (result i32) (table.grow $t (ref.func $two) (local.get 0)))
  (func (export "point") (param i32) (table.set $t (local.get 0) (ref.func $ten)))
  (func (export "target") (param i32) (result i32) (call_indirect $t (type $answer) (local.get 0)))
  (func (export "drop") (data.drop $d) (elem.drop $e))
  (func (export "init") (memory.init $d (i32.const 100) (i32.const 0) (i32.const 4))
    (table.init $t $e (i32.const 1) (i32.const 0) (i32.const 1)))
  (func (export "starts") (result i32) (global.get $starts))
  (func (export "note") (param i32) (call $note (local.get 0)))
  (func (export "spoil") (param i32) (i32.store (i32.const 8) (i32.const 99)) (global.set $n (i32.const 99))
    (global.set $f (f32.const 99)) (drop (memory.grow (i32.const 3))) (drop (table.grow $t (ref.null func) (i32.const 1)))
    (table.set $t (i32.const 0) (ref.func $one)) (data.drop $d) (elem.drop $e) (call $note (local.get 0)) unreachable))"""

_WAIT = 60.0


class _RefusalError(Exception):
    """Be raised by a host function."""


class _Host:
    """Be the guest's host: count, fail when told to, and hold a guest inside a call until a test lets it go."""

    def __init__(self) -> None:
        self.notes: list[int] = []
        self.inside = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def note(self, guest: Any, number: int) -> None:
        self.notes.append(number)
        if number == 1:
            raise _RefusalError
        if number == 2:
            self.inside.release()
            assert self.go.acquire(timeout=_WAIT)
        if number == 3:
            guest.state["log"] = [*guest.state.get("log", []), number]

    @property
    def imports(self) -> Any:
        return {"host": {"note": HostFunction(self.note, caller=True), "ten": lambda: 10}}


class _Aside:
    """Run something in another thread, and give what it gave."""

    def __init__(self, fn: Any, *args: Any) -> None:
        self._outcome: list[Any] = []
        self._thread = threading.Thread(target=self._run, args=(fn, *args))
        self._thread.start()

    def _run(self, fn: Any, *args: Any) -> None:
        try:
            self._outcome += [fn(*args), None]
        except BaseException as error:
            self._outcome += [None, error]

    def join(self) -> Any:
        self._thread.join(_WAIT)
        assert self._outcome, "it's still running"
        if self._outcome[1] is not None:
            raise self._outcome[1]
        return self._outcome[0]


class PoolTests:
    """Check that pools over an engine keep their promises; what a pool does without an engine's help isn't looked at.

    ::

        class TestMyPools(PoolTests):
            engine_name = "mine"
    """

    engine_name: ClassVar[str]
    workers: ClassVar[Workers] = "threads"
    """Where the instances are to run."""

    def engine(self) -> Engine:
        """Give the engine that the pools use."""
        if self.workers == "threads":
            return load_engine(self.engine_name)
        from replicate.processes.module import remote_engine

        return remote_engine(self.engine_name)

    @pytest.fixture
    def traits(self) -> EngineTraits:
        """Give what the engine claims."""
        return self.engine().traits

    @pytest.fixture
    def host(self) -> _Host:
        """Give the host that the guests of one test share."""
        return _Host()

    @pytest.fixture
    def pool(self, host: _Host) -> Iterator[Pool]:
        """Give a pool of two replicas."""
        with self.open(host) as pool:
            yield pool

    def open(self, host: _Host, **options: Any) -> Pool:
        """Open a pool on the guest."""
        return self.open_on(GUEST, imports=host.imports, **{"replicas": 2, **options})

    def open_on(self, source: str, **options: Any) -> Pool:
        """Open a pool on any guest."""
        return Pool.open(source, engine=self.engine_name, workers=self.workers, **options)

    def test_a_read_sees_the_write_before_it(self, pool: Pool) -> None:
        for number in range(5, 15):
            pool.write(lambda guest, number=number: guest.call("set", number))  # type: ignore[misc]
            assert [number] * 4 == [pool.read(lambda guest: guest.call("get")) for _ in range(4)]

    def test_every_kind_of_state_reaches_the_replicas(self, pool: Pool) -> None:
        def change(guest: Any) -> None:
            guest.call("set", 0x7FA00001)
            guest.call("grow", 2)
            guest.call("extend", 1)
            guest.call("point", 0)
            guest.call("note", 3)
            guest.call("drop")

        pool.write(change)
        for _ in range(3):
            with pool.reading() as guest:
                assert guest.call("look") == (0x7FA00001, 0x7FA00001, 0x7FA00001, 3, 3)
                assert (guest.call("target", 0), guest.call("target", 2)) == (10, 2)
                with pytest.raises(Trap):
                    guest.call("target", 1)
                with pytest.raises(Trap):
                    guest.call("init")
                assert dict(guest.state) == {"log": [3]}

    @pytest.mark.parametrize(("how", "error"), [(0, Trap), (1, _RefusalError)])
    def test_a_failed_write_leaves_nothing(self, pool: Pool, how: int, error: type[Exception]) -> None:
        pool.write(lambda guest: (guest.call("set", 7), guest.call("point", 1)))
        before, seen = pool.snapshot(), pool.read(lambda guest: guest.call("look"))
        with pytest.raises(error):
            pool.write(lambda guest: (guest.state.update(x=[1]), guest.call("spoil", how)))
        assert before == pool.snapshot()
        assert pool.version == 1
        for transaction in (pool.read, pool.write):
            assert seen == transaction(lambda guest: guest.call("look"))
            assert transaction(lambda guest: dict(guest.state)) == {}
            with pytest.raises(Trap):
                transaction(lambda guest: guest.call("target", 0))
            assert transaction(lambda guest: guest.call("target", 1)) == 10
        pool.write(lambda guest: guest.call("init"))
        assert pool.read(lambda guest: guest.memory.read(100, 4)) == b"abcd"

    def test_no_read_sees_what_another_changed(self, host: _Host) -> None:
        with self.open(host, replicas=1) as pool:
            before = pool.read(lambda guest: guest.call("look"))
            for how in (0, 1):
                with pytest.raises((Trap, _RefusalError)):
                    pool.read(lambda guest, how=how: guest.call("spoil", how))  # type: ignore[misc]
                pool.read(lambda guest: (guest.call("set", 5), guest.call("grow", 1), guest.state.update(x=1)))
                assert before == pool.read(lambda guest: guest.call("look"))
                assert pool.read(lambda guest: dict(guest.state)) == {}
                pool.read(lambda guest: guest.call("init"))

    def test_the_cheaper_rule_keeps_a_reads_changes_until_the_next_commit(self, host: _Host) -> None:
        with self.open(host, replicas=1, reset="on_commit") as pool:
            pool.read(lambda guest: guest.call("set", 5))
            assert pool.read(lambda guest: guest.call("get")) == 5
            pool.write(lambda guest: guest.call("grow", 1))
            assert pool.read(lambda guest: guest.call("get")) == 0

    def test_start_functions_run_once_and_on_the_leader(self, pool: Pool, host: _Host) -> None:
        pool.resize(3)
        for _ in range(4):
            assert pool.read(lambda guest: guest.call("starts")) == 1
        with pytest.raises(Trap):
            pool.write(lambda guest: guest.call("spoil", 0))
        assert pool.write(lambda guest: guest.call("starts")) == 1
        assert host.notes.count(-1) == 1

    def test_host_writes_count_like_the_guests_own(self, pool: Pool) -> None:
        with pool.writing() as guest:
            guest.memory.write(65532, b"last")
            guest.memory.grow(1)
        for _ in range(3):
            assert pool.read(lambda guest: guest.memory.read(65532, 8)) == b"last\0\0\0\0"
        with pool.reading() as guest:
            guest.memory.write(0, b"leak")
        for _ in range(3):
            assert pool.read(lambda guest: guest.memory.read(0, 4)) == bytes(4)

    def test_a_running_read_keeps_its_version_and_stops_nobody(
        self, pool: Pool, host: _Host, traits: EngineTraits
    ) -> None:
        if traits.thread_bound:
            return

        def slow(guest: Any) -> tuple[int, int]:
            first = guest.call("get")
            guest.call("note", 2)
            return first, guest.call("get")

        reader = _Aside(pool.read, slow)
        assert host.inside.acquire(timeout=_WAIT)
        for number in range(1, 4):
            pool.write(lambda guest, number=number: guest.call("set", number), timeout=_WAIT)  # type: ignore[misc]
            assert number == pool.read(lambda guest: guest.call("get"), timeout=_WAIT)
        host.go.release()
        assert reader.join() == (0, 0)

    def test_reads_do_not_wait_for_a_running_write(self, pool: Pool, host: _Host, traits: EngineTraits) -> None:
        if traits.thread_bound:
            return
        writer = _Aside(pool.write, lambda guest: (guest.call("set", 5), guest.call("note", 2)))
        assert host.inside.acquire(timeout=_WAIT)
        for _ in range(4):
            assert pool.read(lambda guest: guest.call("get"), timeout=_WAIT) == 0
        with pytest.raises(PoolTimeoutError):
            pool.write(lambda guest: guest.call("set", 6), timeout=0.02)
        host.go.release()
        writer.join()
        assert pool.read(lambda guest: guest.call("get")) == 5

    def test_threads_share_a_pool(self, pool: Pool, traits: EngineTraits) -> None:
        if traits.thread_bound:
            return
        rounds = 25

        def add(guest: Any) -> None:
            guest.call("set", guest.call("get") + 1)

        def work() -> int:
            for _ in range(rounds):
                pool.write(add, timeout=_WAIT)
                with pytest.raises(Trap):
                    pool.write(lambda guest: guest.call("spoil", 0), timeout=_WAIT)
                value = pool.read(lambda guest: guest.call("look"), timeout=_WAIT)
                assert value[0] == value[1] == value[2], "half a write"
            return 1

        threads = [_Aside(work) for _ in range(4)]
        assert sum(thread.join() for thread in threads) == 4
        assert pool.read(lambda guest: guest.call("get")) == 4 * rounds

    def test_handles_die_with_their_transaction(self, pool: Pool) -> None:
        for transaction in (pool.read, pool.write):
            kept = transaction(lambda guest: (guest, guest.memory, guest.exports["get"], guest.state))
            uses: list[Callable[[Any, Any, Any, Any], Any]] = [
                lambda guest, memory, get, state: guest.call("get"),
                lambda guest, memory, get, state: memory.read(0, 1),
                lambda guest, memory, get, state: get(),
                lambda guest, memory, get, state: len(state),
            ]
            for use in uses:
                with pytest.raises(DeadHandleError):
                    use(*kept)

    def test_a_transaction_inside_another_raises_at_once(self, pool: Pool) -> None:
        for outer in (pool.read, pool.write):
            with pytest.raises(NestedTransactionError):
                outer(lambda guest: pool.read(lambda inner: None))
        assert pool.read(lambda guest: guest.call("get"), timeout=_WAIT) == 0

    def test_state_that_cannot_be_carried_is_refused_and_rolled_back(self, pool: Pool) -> None:
        with pytest.raises(StateError):
            pool.write(lambda guest: (guest.call("set", 5), guest.state.update(x=object())))
        assert pool.read(lambda guest: (guest.call("get"), dict(guest.state))) == (0, {})
        with pytest.raises((NotReplicableError, UnsupportedError), match="shared"):
            self.open_on("(module (memory 1 1 shared))")

    def test_live_host_references_are_refused_at_the_commit(self, traits: EngineTraits) -> None:
        if not traits.reference_values:
            return
        wat = """(module (global $g (mut externref) (ref.null extern)) (memory (export "memory") 1)
            (func (export "keep") (param externref) (global.set $g (local.get 0)) (i32.store (i32.const 0) (i32.const 1))))"""
        with self.open_on(wat, replicas=1) as pool:
            with pytest.raises(NotReplicableError, match="global 0"):
                pool.write(lambda guest: guest.call("keep", object()))
            assert pool.read(lambda guest: guest.memory.read(0, 1)) == b"\0"
            pool.write(lambda guest: guest.call("keep", None))

    def test_a_snapshot_of_a_pool_restores_on_an_instance(self, pool: Pool, host: _Host) -> None:
        pool.write(lambda guest: (guest.call("set", 9), guest.call("grow", 1), guest.call("point", 1)))
        snapshot = Snapshot.from_bytes(pool.snapshot().to_bytes())
        module = self.engine().compile(GUEST)
        with module.instantiate(host.imports) as instance:
            instance.restore(snapshot)
            assert instance.call("look") == (9, 9, 9, 2, 2)
            assert instance.call("target", 1) == 10
            assert snapshot == instance.snapshot()

    def test_a_closed_pool_says_so(self, pool: Pool) -> None:
        pool.read(lambda guest: None)
        pool.close()
        pool.close()
        for transaction in (pool.read, pool.write):
            with pytest.raises(PoolClosedError):
                transaction(lambda guest: None)
