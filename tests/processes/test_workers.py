"""What is particular to pools whose guests are in processes of their own."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from replicate import AsyncPool, HostFunction, Pool, Wasi, errors
from replicate.errors import (
    ArgumentTypeError,
    Finding,
    Frame,
    GuestExit,
    GuestTimeoutError,
    ImportTypeError,
    NotReplicableError,
    PoolError,
    PoolForkedError,
    Trap,
    TrapCode,
    WorkerDiedError,
    WorkerError,
)
from replicate.processes import image, module
from replicate.processes.interpreters import find_interpreter
from replicate_kv import KeyValueAdapter

sys.path.append(str(Path(__file__).parent))
import shipped

COUNTER = """(module (import "h" "note" (func $note (param i32))) (memory (export "memory") 1 200)
  (global $n (mut i32) (i32.const 0))
  (func (export "bump") (result i32) (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n))
  (func (export "n") (result i32) (global.get $n))
  (func (export "note") (param i32) (call $note (local.get 0)))
  (func (export "store") (param i32 i32) (i32.store (local.get 0) (local.get 1)))
  (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "forever") (loop $l (br $l))))"""


@pytest.fixture(params=["wasmtime", "wasmer"])
def engine_name(request: pytest.FixtureRequest) -> str:
    """Name each engine that workers can run."""
    if request.param == "wasmer":
        request.getfixturevalue("wasmer")
    return str(request.param)


def open_counter(engine: str = "wasmtime", note: Any = None, **options: Any) -> Pool:
    """Open a pool of workers on the counter."""
    given = note if note is not None else (lambda number: None)
    return Pool.open(COUNTER, engine=engine, workers="processes", imports={"h": {"note": given}}, **options)


# -- who runs what ---------------------------------------------------------------------------------------------------------


def test_functions_run_where_they_are_told_to(engine_name: str) -> None:
    seen: list[int] = []
    with open_counter(engine_name, lambda number: seen.append(os.getpid()), replicas=1) as pool:
        assert pool.read(shipped.whose) == os.getpid()
        beside = pool.read(shipped.whose, in_worker=True)
        leaders = pool.write(shipped.whose, in_worker=True)
        assert len({os.getpid(), beside, leaders}) == 3
        pool.read(lambda guest: guest.call("note", 1))
        assert seen == [os.getpid()]
        assert pool.write(shipped.bump_twice, in_worker=True) == 2
        assert pool.read(lambda guest: guest.call("n")) == 2
        with pool.writing() as guest:
            assert guest.run(shipped.bump_twice) == 4


def test_a_host_function_can_run_beside_the_guest() -> None:
    with open_counter(note=HostFunction(shipped.note, in_worker=True), replicas=1) as pool:
        with pytest.raises(ProcessLookupError) as caught:
            pool.read(lambda guest: guest.call("note", 7))
        assert caught.value.args == (pool.read(shipped.whose, in_worker=True), "7")
    with pytest.raises(ImportTypeError, match="in_worker"):
        open_counter(note=HostFunction(lambda number: None, in_worker=True))


@pytest.mark.parametrize("fn", [lambda guest: 1, threading.Lock().acquire])
def test_a_function_that_cannot_go_there_is_refused_with_what_to_do(fn: Any) -> None:
    with open_counter(replicas=1) as pool:
        for transaction in (pool.read, pool.write):
            with pytest.raises(ArgumentTypeError, match="top of a module"):
                transaction(fn, in_worker=True)
        assert pool.read(lambda guest: guest.call("n")) == 0
    with Pool.open("(module)", workers="threads", replicas=1) as pool:
        assert pool.read(lambda guest: 1, in_worker=True) == 1


def test_what_a_shipped_function_raises_comes_back(engine_name: str) -> None:
    with open_counter(engine_name, replicas=1) as pool:
        with pytest.raises(LookupError) as caught:
            pool.write(shipped.fail, in_worker=True)
        assert caught.value.args == ("mine", 5)
        assert "shipped.py" in str(caught.value.__cause__)
        with pytest.raises(WorkerError, match="can't be carried"):
            pool.write(shipped.unpicklable, in_worker=True)
        assert pool.read(lambda guest: guest.call("n")) == 0


def test_host_functions_nest_and_their_exceptions_are_the_same_objects(engine_name: str) -> None:
    error = ZeroDivisionError("ours")
    error.lock = threading.Lock()  # type: ignore[attr-defined]

    def note(guest: Any, number: int) -> None:
        if number == 0:
            raise error
        guest.call("bump")
        guest.state["depth"] = number
        guest.call("note", number - 1)

    with open_counter(engine_name, HostFunction(note, caller=True), replicas=1) as pool:
        for transaction in (pool.read, pool.write):
            with pytest.raises(ZeroDivisionError) as caught:
                transaction(lambda guest: guest.call("note", 5))
            assert caught.value is error

        def catch(guest: Any) -> Any:
            with pytest.raises(ZeroDivisionError):
                guest.call("note", 3)
            return guest.call("n"), guest.state["depth"]

        assert pool.read(catch) == (3, 1)


def test_a_guest_catches_up_once_and_not_again_in_the_middle_of_its_call(engine_name: str) -> None:
    """What a host function asks the guest for comes with a request of its own, while the first one isn't answered."""
    source = """(module (import "h" "look" (func $look (result i32))) (memory (export "memory") 1)
      (func (export "get") (result i32) (i32.load (i32.const 0)))
      (func (export "put") (param i32) (result i32) (i32.store (i32.const 0) (local.get 0)) (call $look)))"""
    look = HostFunction(lambda guest: guest.call("get"), caller=True)
    with Pool.open(source, imports={"h": {"look": look}}, engine=engine_name, workers="processes", replicas=1) as pool:
        for number in range(1, 4):
            assert pool.write(lambda guest, number=number: guest.call("put", number)) == number
            assert pool.read(lambda guest: (guest.call("put", -1), guest.call("get"))) == (-1, -1)
            assert pool.read(lambda guest: guest.call("get")) == number


def test_an_adapter_beside_the_guest_asks_the_pool_s_own(engine_name: str) -> None:
    adapter = shipped.Asking()
    with Pool.open(adapter, engine=engine_name, workers="processes", replicas=1) as pool:
        for transaction in (pool.read, pool.write):
            assert transaction(lambda guest: guest.call("ask", 21)) == 42
            with pytest.raises(LookupError, match="-1"):
                transaction(lambda guest: guest.call("ask", -1))
    assert [(number, here) for number, _, here in adapter.asked] == [(21, os.getpid()), (-1, os.getpid())] * 2
    assert os.getpid() not in {there for _, there, _ in adapter.asked}


def test_in_the_pool_s_own_process_there_is_nobody_to_ask() -> None:
    with Pool.open(shipped.Asking(), replicas=1) as pool:
        assert pool.read(lambda guest: guest.call("ask", 21)) == -1


def test_wasi_runs_beside_the_guest_and_its_sinks_here() -> None:
    wat = """(module (import "wasi_snapshot_preview1" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1) (data (i32.const 16) "hello") (data (i32.const 0) "\\10\\00\\00\\00\\05\\00\\00\\00")
      (func (export "hello") (drop (call $w (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"""
    written: list[Any] = []
    with Pool.open(wat, wasi=Wasi(stdout=written.append), workers="processes", replicas=1) as pool:
        pool.read(lambda guest: guest.call("hello"))
        assert written == [b"hello"]
    wasi = Wasi()
    with Pool.open(wat, wasi=wasi, workers="processes", replicas=1) as pool:
        pool.write(lambda guest: guest.call("hello"))
        assert pool.read(lambda guest: (guest.call("hello"), wasi.stdout(guest))[1]) == b"hellohello"
        assert pool.read(wasi.stdout) == b"hello"


# -- errors ----------------------------------------------------------------------------------------------------------------

SPECIAL: dict[type[BaseException], BaseException] = {
    Trap: Trap("trapped", code=TrapCode.UNREACHABLE, frames=[Frame(1, "f", 2)]),
    GuestExit: GuestExit(3),
    NotReplicableError: NotReplicableError([Finding("here", "why")], what="no"),
}


@pytest.mark.parametrize(
    "kind", [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BaseException)]
)
def test_every_error_can_be_pickled(kind: Any) -> None:
    error = SPECIAL.get(kind) or kind("a message")
    error.extra = [1]
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert (str(copy), copy.args, vars(copy)) == (str(error), error.args, vars(error))


# -- memory ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", ["auto", "copy"])
def test_logs_that_are_full_begin_anew_under_readers(
    engine_name: str, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image, "_LEAST_CAPACITY", 1)
    rng = random.Random(3)
    model = {0: 0}
    pages = 1
    with open_counter(engine_name, replicas=3, memory=memory) as pool:
        seen: list[bytes] = []
        inside, go = threading.Event(), threading.Event()

        def stay(guest: Any) -> None:
            seen.append(guest.memory.read(0, 65536))
            inside.set()
            go.wait(60)
            seen.append(guest.memory.read(0, 65536))

        reader_at_0 = threading.Thread(target=pool.read, args=(stay,))
        reader_at_0.start()
        assert inside.wait(60)
        epochs = set()
        for turn in range(60):
            if turn % 7 == 3:
                pool.write(lambda guest: guest.call("grow", 1))
                pages += 1
            values = {rng.randrange(pages * 16) * 4096: rng.randrange(1, 1 << 30) for _ in range(rng.randrange(30))}
            with pytest.raises(ZeroDivisionError), pool.writing() as writer:
                for at in values:
                    writer.call("store", at, -1)
                raise ZeroDivisionError
            with pool.writing() as writer:
                for at, value in values.items():
                    writer.call("store", at, value)
            model.update(values)
            epochs.add(pool._core.image._now.epoch.number)  # type: ignore[attr-defined]
            for _ in range(3):
                with pool.reading() as reader:
                    assert reader.memory.size == pages * 65536
                    assert {at: reader.call("load", at) for at in model} == model
                    reader.call("store", 8, 1)
        assert len(epochs) > 5
        go.set()
        reader_at_0.join()
        assert seen == [bytes(65536)] * 2, "a running read stays at its version"
        snapshot = pool.snapshot()
        assert snapshot.memories[0].size == pages * 65536
        with pool.branch() as branch:
            assert branch.snapshot() == snapshot
            assert branch.read(lambda guest: {at: guest.call("load", at) for at in model}) == model


def test_memories_with_pages_of_their_own_size_are_followed() -> None:
    wat = """(module (memory (export "memory") 5000 9000 (pagesize 1))
      (func (export "store") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))
      (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"""
    with Pool.open(wat, workers="processes", replicas=1) as pool:
        pool.write(lambda guest: guest.call("store", 4999, 7))
        pool.write(lambda guest: (guest.call("grow", 100), guest.call("store", 5099, 8)))
        for _ in range(2):
            assert pool.read(lambda guest: (guest.memory.size, guest.memory.read(4999, 101))) == (
                5100,
                b"\x07" + bytes(99) + b"\x08",
            )
            pool.read(lambda guest: guest.call("store", 0, 1))
        assert pool.read(lambda guest: guest.memory.read(0, 1)) == b"\0"


def test_scratch_memories_stay_with_their_replica() -> None:
    wat = """(module (memory (export "memory") 1) (memory $scratch (export "scratch") 1) (data (memory $scratch) (i32.const 0) "ab")
      (func (export "both") (param i32) (i32.store (i32.const 0) (local.get 0)) (i32.store $scratch (i32.const 0) (local.get 0)))
      (func (export "look") (result i32 i32) (i32.load (i32.const 0)) (i32.load $scratch (i32.const 0))))"""
    scratch = int.from_bytes(b"ab", "little")
    with Pool.open(
        wat, workers="processes", replicas=1, share={"scratch": False}, init=lambda guest: guest.call("both", 3)
    ) as pool:
        assert pool.read(lambda guest: guest.call("look")) == (3, scratch)
        pool.write(lambda guest: guest.call("both", 4))
        for _ in range(2):
            assert pool.read(lambda guest: (guest.call("look"), guest.call("both", 9))[0]) == (4, scratch)


# -- life and death --------------------------------------------------------------------------------------------------------


def workers_of(pool: Pool) -> set[int]:
    """List the pool's processes."""
    core = pool._core
    instances = [*core.instances.values(), *([core.leader] if core.leader is not None else [])]
    return {instance.process.pid for instance in instances}  # type: ignore[attr-defined]


def test_a_worker_that_is_killed_costs_its_transaction_only(engine_name: str, process_tools: Any) -> None:
    _, _, wait_until = process_tools
    with open_counter(engine_name, replicas=1) as pool:
        pool.write(lambda guest: guest.call("bump"))
        for transaction in (pool.read, pool.write):

            def suicide(guest: Any) -> None:
                guest.call("bump")
                os.kill(guest.run(shipped.whose), signal.SIGKILL)
                guest.call("n")

            with pytest.raises(WorkerDiedError, match="killed by signal 9"):
                transaction(suicide)
            assert pool.read(lambda guest: guest.call("n")) == 1
            assert pool.write(lambda guest: guest.call("n")) == 1
        # Those that die while nobody uses them are noticed before they're used.
        core = pool._core
        for instance in (core.leader, core.instances[0]):
            os.kill(instance.process.pid, signal.SIGKILL)  # type: ignore[union-attr]
            wait_until(lambda instance=instance: instance.is_lost)
        assert pool.read(lambda guest: guest.call("n")) == 1
        assert pool.write(lambda guest: guest.call("bump")) == 2


def test_an_endless_guest_is_stopped_at_its_deadline(engine_name: str) -> None:
    with open_counter(engine_name, replicas=1) as pool:
        pool.write(lambda guest: guest.call("bump"))
        for transaction in (pool.read, pool.write):
            began = time.monotonic()
            with pytest.raises(GuestTimeoutError, match="0.2 s"):
                transaction(lambda guest: (guest.call("bump"), guest.call("forever")), timeout=0.2)
            assert time.monotonic() - began < 30
            assert pool.read(lambda guest: guest.call("n")) == 1
        assert pool.write(lambda guest: guest.call("bump")) == 2
        assert pool.stats().interruptions == 2


def test_a_worker_that_hangs_is_killed_after_a_grace_period() -> None:
    with open_counter(replicas=1) as pool:
        pool.read(shipped.whose, in_worker=True)
        with pytest.raises(GuestTimeoutError):
            with pool.reading(timeout=0.5) as guest:
                os.kill(guest.run(shipped.whose), signal.SIGSTOP)
                guest.call("n")
        assert pool.read(lambda guest: guest.call("n")) == 0


def test_closing_a_pool_ends_its_processes(engine_name: str, process_tools: Any) -> None:
    children, is_running, wait_until = process_tools
    pool = open_counter(engine_name, replicas=3)
    pool.read(lambda guest: guest.call("n"))
    processes = workers_of(pool)
    assert processes <= children()
    assert len(processes) == 4
    pool.close()
    wait_until(lambda: not any(map(is_running, processes)))
    pool = open_counter(engine_name, replicas=1)
    processes = workers_of(pool)
    del pool
    gc.collect()
    wait_until(lambda: not any(map(is_running, processes)))


ORPHANS = """
import os, sys, threading
sys.path.append({folder!r})
from test_workers import open_counter, workers_of
pool = open_counter({engine!r}, replicas=2)
pool.read(lambda guest: guest.call("n"))
threading.Thread(target=pool.read, args=(lambda guest: guest.call("forever"),), daemon=True).start()
threading.Thread(target=pool.write, args=(lambda guest: guest.call("forever"),), daemon=True).start()
child = os.fork()
if not child:
    import time
    time.sleep(600)
print(child, *workers_of(pool), flush=True)
threading.Event().wait()
"""


def test_no_worker_outlives_a_parent_that_is_killed(engine_name: str, process_tools: Any) -> None:
    """The guests are in endless loops, and a forked child of the parent lives on."""
    _, is_running, wait_until = process_tools
    script = ORPHANS.format(folder=str(Path(__file__).parent), engine=engine_name)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child, *processes = map(int, parent.stdout.readline().split())
        try:
            assert len(processes) == 3
            time.sleep(0.3)
            assert all(map(is_running, processes))
            parent.kill()
            wait_until(lambda: not any(map(is_running, processes)))
            assert is_running(child)
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_worker_that_cannot_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_interpreter", lambda name: Path("/bin/false"))
    with pytest.raises(WorkerDiedError, match="ended with status 1 while it was being started"):
        open_counter()
    monkeypatch.setattr(module, "find_interpreter", lambda name: Path("/nowhere/python"))
    with pytest.raises(PoolError, match="/nowhere/python"):
        open_counter()


def test_a_replica_that_cannot_start_fails_its_read_only() -> None:
    with open_counter(replicas=2, min_replicas=1) as pool:
        engine: Any = pool._core.engine
        good, engine._interpreter = engine._interpreter, Path("/bin/false")
        with pool.reading() as guest:
            other = threading.Thread(target=lambda: outcome.append(_outcome(pool)))
            outcome: list[Any] = []
            other.start()
            other.join()
            assert isinstance(outcome[0], WorkerDiedError)
            engine._interpreter = good
            assert guest.call("n") == 0
        assert [pool.read(lambda guest: guest.call("n")) for _ in range(3)] == [0, 0, 0]


def _outcome(pool: Pool) -> Any:
    try:
        return pool.read(lambda guest: guest.call("n"))
    except Exception as error:
        return error


def test_a_forked_child_leaves_the_workers_alone() -> None:
    with open_counter(replicas=1) as pool:
        pool.write(lambda guest: guest.call("bump"))
        child = os.fork()
        if child == 0:
            try:
                pool.close()
                pool.read(lambda guest: None)
            except PoolForkedError:
                os._exit(17)
            except BaseException:
                os._exit(2)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 17
        assert pool.read(lambda guest: guest.call("n")) == 1
        assert pool.write(lambda guest: guest.call("bump")) == 2


INTERRUPTED = """
import sys
sys.path.append({folder!r})
from test_workers import open_counter
pool = open_counter({engine!r}, replicas=1)
for transaction in (pool.read, pool.write):
    try:
        transaction(lambda guest: (guest.call("bump"), print("inside", flush=True), guest.call("forever")))
    except KeyboardInterrupt:
        print("interrupted", flush=True)
print(pool.read(lambda guest: guest.call("n")), pool.version)
pool.close()
"""


def test_ctrl_c_ends_an_endless_guest(engine_name: str) -> None:
    script = INTERRUPTED.format(folder=str(Path(__file__).parent), engine=engine_name)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(2):
            assert process.stdout.readline() == "inside\n"
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "interrupted\n"
        assert process.stdout.read() == "0 0\n"
    assert process.returncode == 0


@pytest.mark.parametrize("kills", [25, pytest.param(600, marks=[pytest.mark.nightly, pytest.mark.timeout(1200)])])
def test_random_kills_under_load_lose_nothing_that_was_committed(engine_name: str, kills: int) -> None:
    """Values of a row are kept equal; a commit that was lost, or half of one, would show. 600 kills take a minute."""
    row = 12
    wrong: list[Any] = []
    deaths = [0]
    known = [0]
    stop = threading.Event()
    with Pool.open(KeyValueAdapter(), engine=engine_name, workers="processes", replicas=3) as pool:

        def write(guest: Any) -> int:
            value = int(guest.call("get", 0)) + 1
            for key in range(row):
                guest.call("put", key, value)
            return value

        def work(number: int) -> None:
            rng = random.Random(number)
            while not stop.is_set():
                try:
                    if rng.random() < 0.3:
                        known.append(pool.write(write))
                    else:
                        least = max(known)
                        values = pool.read(lambda guest: [guest.call("get", key) for key in range(row)])
                        if len(set(values)) != 1 or values[0] < least:
                            wrong.append((least, values))
                except WorkerDiedError:
                    deaths[0] += 1
                except BaseException as error:
                    wrong.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        rng = random.Random(1)
        for _ in range(kills):
            time.sleep(rng.random() / 5)
            victims = sorted(workers_of(pool))
            if victims:
                with contextlib.suppress(ProcessLookupError):  # one that has been reaped since it was listed
                    os.kill(rng.choice(victims), signal.SIGKILL)
        stop.set()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert sorted(known) == list(range(len(known))), "each commit counted once"
        assert deaths[0] > 0
        assert pool.read(lambda guest: guest.call("get", row - 1)) == max(known)
        stats = pool.stats()
        assert (stats.replicas, stats.idle, stats.commits) == (3, 3, len(known) - 1)
        barrier = threading.Barrier(3)
        readers = [threading.Thread(target=pool.read, args=(lambda guest: barrier.wait(60),)) for _ in range(3)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        assert pool.stats().made == 3


def test_tasks_use_workers_too(engine_name: str) -> None:
    async def main() -> None:
        async with AsyncPool.open(KeyValueAdapter(), engine=engine_name, workers="processes", replicas=2) as pool:
            await pool.write(lambda guest: guest.call("put", 1, 42))
            assert (
                await asyncio.gather(*[pool.read(lambda guest: guest.call("get", 1)) for _ in range(10)]) == [42] * 10
            )
            assert await pool.read(shipped.whose, in_worker=True) != os.getpid()
            async with pool.writing() as guest:
                await guest.call("put", 1, 43)
                assert await guest.run(shipped.whose) != os.getpid()
            task = asyncio.create_task(pool.read(lambda guest: guest.call("spin_forever")))
            await asyncio.sleep(0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await pool.read(lambda guest: guest.call("get", 1), timeout=60) == 43

    asyncio.run(main())


def test_workers_are_the_default_where_threads_are_no_use(wasmer: str) -> None:
    with Pool.open(KeyValueAdapter(), engine=wasmer, replicas=1) as pool:
        assert pool.stats().memory_mode == "log"
        assert pool.stats().engine.startswith("wasmer 1.")
    with Pool.open(KeyValueAdapter(), replicas=1) as pool:
        assert pool.stats().memory_mode != "log"
    with pytest.raises(PoolError, match="workers is 'fibres'"):
        Pool.open(KeyValueAdapter(), workers="fibres")  # type: ignore[arg-type]
    assert find_interpreter("wasmtime") == Path(sys.executable)
