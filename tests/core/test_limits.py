"""Promise P7: everything a guest can use up has a bound."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from drivers import DRIVERS

from replicate import AsyncPool, Pool, Trap, load_engine
from replicate.errors import GuestInterruptedError, GuestTimeoutError, MemoryAccessError, PoolTimeoutError
from replicate_kv import KeyValueAdapter

LOOPS = """(module (import "h" "sleep" (func $sleep)) (memory (export "memory") 1) (table (export "t") 1 funcref)
  (func (export "forever") (i32.store (i32.const 0) (i32.const 9)) (loop $l (br $l)))
  (func (export "recurse_forever") (loop $l (call $nothing) (br $l))) (func $nothing)
  (func (export "sleep") (call $sleep))
  (func (export "set") (param i32) (i32.store (i32.const 0) (local.get 0)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "grow_table") (param i32) (result i32) (table.grow (ref.null func) (local.get 0)))
  (func (export "get") (result i32) (i32.load (i32.const 0))))"""


@pytest.fixture(params=sorted(DRIVERS))
def pool(request: pytest.FixtureRequest) -> Any:
    """Open a pool of one replica that can loop for ever, and sleep in its host."""
    opened = DRIVERS[request.param](LOOPS, replicas=1, imports={"h": {"sleep": lambda: time.sleep(0.2)}})
    yield opened
    opened.close()


@pytest.mark.parametrize("loop", ["forever", "recurse_forever"])
def test_an_endless_read_is_stopped_and_its_replica_reset(pool: Any, loop: str) -> None:
    for _ in range(3):
        with pytest.raises(GuestTimeoutError, match="0.05 s"):
            pool.read(lambda guest: guest.call(loop), timeout=0.05)
        assert pool.read(lambda guest: guest.call("get"), timeout=30) == 0


def test_an_endless_write_is_stopped_and_rolled_back(pool: Any) -> None:
    with pytest.raises(GuestTimeoutError):
        pool.write(lambda guest: guest.call("forever"), timeout=0.05)
    assert pool.version == 0
    pool.write(lambda guest: guest.call("set", 4), timeout=30)
    assert pool.read(lambda guest: guest.call("get")) == 4


def test_a_timeout_is_a_timeout_error_wherever_it_strikes(pool: Any) -> None:
    with pytest.raises(TimeoutError):
        pool.read(lambda guest: guest.call("forever"), timeout=0.05)
    assert issubclass(PoolTimeoutError, TimeoutError)


def test_time_counts_from_the_request_over_all_calls(pool: Any) -> None:
    began = time.monotonic()
    with pytest.raises(GuestTimeoutError):
        with pool.reading(timeout=0.3) as guest:
            time.sleep(0.25)
            guest.call("forever")
    assert time.monotonic() - began < 5


def test_a_host_function_ends_first_and_then_the_deadline_counts(pool: Any) -> None:
    with pytest.raises(GuestTimeoutError):
        pool.read(lambda guest: guest.call("sleep"), timeout=0.05)


def test_a_write_that_ends_after_its_deadline_is_rolled_back(pool: Any) -> None:
    def late(guest: Any) -> None:
        guest.call("set", 4)
        time.sleep(0.1)

    with pytest.raises(GuestTimeoutError):
        pool.write(late, timeout=0.05)
    assert (pool.version, pool.read(lambda guest: guest.call("get"))) == (0, 0)


def test_many_deadlines_at_once_stop_only_their_own_guests() -> None:
    outcomes: list[Any] = []
    with Pool.open(KeyValueAdapter(), replicas=8) as pool:

        def work(number: int) -> None:
            try:
                if number % 2:
                    pool.read(lambda guest: guest.call("spin_forever"), timeout=0.05 + number / 100)
                    outcomes.append("returned")
                else:
                    outcomes.append(pool.read(lambda guest: guest.call("spin", 100_000_000), timeout=60) is not None)
            except GuestTimeoutError:
                outcomes.append("stopped")

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(map(str, outcomes)) == ["True"] * 4 + ["stopped"] * 4


@pytest.mark.parametrize("kind", ["read", "write", "reading", "writing"])
def test_cancelling_a_task_stops_its_guest(kind: str) -> None:
    async def main() -> None:
        async with AsyncPool.open(LOOPS, replicas=1, imports={"h": {"sleep": lambda: None}}) as pool:

            async def endless() -> None:
                if kind in ("read", "write"):
                    await getattr(pool, kind)(lambda guest: guest.call("forever"))
                else:
                    async with getattr(pool, kind)() as guest:
                        await guest.call("forever")

            task = asyncio.create_task(endless())
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await pool.write(lambda guest: guest.call("set", 3), timeout=30)
            assert await pool.read(lambda guest: guest.call("get"), timeout=30) == 3
            assert pool.version == 1

    asyncio.run(main())


def test_a_cancelled_guest_is_told_so() -> None:
    engine = load_engine("wasmtime")
    with Pool.open(LOOPS, replicas=1, imports={"h": {"sleep": lambda: None}}) as pool:
        with pool.reading(timeout=60) as guest:
            limit = pool._core.instances[0].limit
            assert limit is not None
            threading.Timer(0.05, limit.cancel, args=("because",)).start()
            with pytest.raises(GuestInterruptedError, match="because"):
                guest.call("forever")
        assert engine is limit.engine


def test_memory_and_tables_have_limits() -> None:
    imports = {"h": {"sleep": lambda: None}}
    with Pool.open(LOOPS, replicas=1, imports=imports, max_memory=3 * 65536, max_table=4) as pool:
        with pool.writing() as guest:
            assert guest.call("grow", 3) == -1
            assert guest.call("grow", 2) == 1
            assert guest.call("grow_table", 4) == -1
            assert guest.call("grow_table", 3) == 1
            with pytest.raises(MemoryAccessError):
                guest.memory.grow(1)
        assert pool.read(lambda guest: (guest.memory.size, len(guest.tables["t"]))) == (3 * 65536, 4)


def test_guests_can_be_faster_and_not_be_stopped() -> None:
    with Pool.open(LOOPS, replicas=1, imports={"h": {"sleep": lambda: None}}, interruptible=False) as pool:
        pool.write(lambda guest: guest.call("set", 1), timeout=30)
        assert pool.read(lambda guest: guest.call("get"), timeout=30) == 1
        with pytest.raises(GuestTimeoutError):
            pool.write(lambda guest: time.sleep(0.1), timeout=0.05)


SCRIPT = f"""
import sys
from replicate import Pool
pool = Pool.open({LOOPS!r}, replicas=1, imports={{"h": {{"sleep": lambda: None}}}})
for transaction in (pool.read, pool.write):
    try:
        transaction(lambda guest: (print("inside", flush=True), guest.call("forever")))
    except KeyboardInterrupt:
        print("interrupted", flush=True)
print(pool.read(lambda guest: guest.call("get")), pool.version)
pool.close()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent otherwise there")
def test_ctrl_c_stops_a_guest_in_the_main_thread() -> None:
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(2):
            assert process.stdout.readline() == "inside\n"
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "interrupted\n"
        assert process.stdout.read() == "0 0\n"
    assert process.returncode == 0


def test_a_trap_is_still_a_trap_under_a_deadline(pool: Any) -> None:
    with pytest.raises(Trap):
        pool.read(lambda guest: guest.call("forever") if False else guest.memory and _trap(guest), timeout=60)


def _trap(guest: Any) -> None:
    raise Trap("ours")


NESTED = """
import signal, threading
from replicate import Pool

one, other = Pool.open(WAT, replicas=1), Pool.open(WAT, replicas=1)
threading.Timer(0.5, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT]).start()
try:
    one.read(lambda guest: (other.read(lambda guest: 1), guest.call("forever")))
except KeyboardInterrupt:
    print("stopped")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there's no pthread_kill there")
def test_ctrl_c_works_in_a_guest_around_a_read_of_another_pool() -> None:
    wat = '(module (func (export "forever") (loop $l (br $l))))'
    done = subprocess.run([sys.executable, "-c", f"WAT = {wat!r}{NESTED}"], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("stopped\n", "")
