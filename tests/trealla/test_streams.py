"""Queries as iterators: streamed on a replica of their own, taken in part, closed, forgotten, cancelled."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from replicate.aio import AsyncGuest
from replicate.errors import (
    ArgumentRangeError,
    ArgumentTypeError,
    ConcurrentUseError,
    GuestTimeoutError,
    NestedTransactionError,
    PoolError,
)
from replicate_trealla import AsyncInterpreter, AsyncPrologPool, Interpreter, Prolog, PrologError, PrologPool

Open = Callable[..., Any]
COUNTER = ":- dynamic(n/1). n(0). up(N) :- retract(n(M)), N is M + 1, assertz(n(N)). slow(N) :- between(1, N, _), fail. slow(_)."


def settled(pool: Any) -> bool:
    stats = pool.stats()
    return (stats.reading, stats.idle, stats.readers_waiting) == (0, stats.replicas, 0)


def test_the_pool_is_used_between_the_answers(open_pool: Open) -> None:
    pool = open_pool(replicas=1, program=COUNTER)

    seen = []
    for answer in pool.query("n(N), between(1, 5, X)", stream=True):
        pool.execute("up(_)")
        seen.append((answer["N"], answer["X"], pool.query_once("n(N)")["N"]))
    assert seen == [(0, count, count) for count in range(1, 6)]
    assert settled(pool)


def test_many_streams_interleave_on_a_pool_of_one(open_pool: Open) -> None:
    pool = open_pool(replicas=1, program=COUNTER)

    streams = []
    for _ in range(6):
        streams.append(pool.query("n(N), between(1, 3, X)", stream=True))
        assert next(streams[-1])["X"] == 1
        pool.execute("up(_)")
    for expected in (2, 3):
        for version, stream in enumerate(streams):
            assert next(stream) == {"N": version, "X": expected}
    for stream in streams:
        assert next(stream, None) is None
        assert next(stream, None) is None
    assert settled(pool)


@pytest.mark.parametrize("stream", [False, True])
def test_the_rest_of_a_query_is_taken_by_first_and_all(open_pool: Open, stream: bool) -> None:
    pool = open_pool(replicas=1)

    def ask(**options: Any) -> Any:
        return pool.query("between(1, 6, X)", stream=stream, **options)

    assert ask().goal == "between(1, 6, X)"
    assert ask().first() == {"X": 1}
    assert [answer["X"] for answer in ask().all()] == [1, 2, 3, 4, 5, 6]
    assert [answer["X"] for answer in ask().all(limit=2)] == [1, 2]
    assert [answer["X"] for answer in ask(limit=3).all()] == [1, 2, 3]
    assert ask(limit=0).all() == []
    assert pool.query("fail", stream=stream).first() is None
    with ask() as query:
        assert next(query) == {"X": 1}
        assert [answer["X"] for answer in query.all(limit=2)] == [2, 3]
        assert list(query) == []
    assert settled(pool)


@pytest.mark.parametrize("stream", [False, True])
def test_output_comes_with_its_answer_and_the_rest_with_the_query(open_pool: Open, stream: bool) -> None:
    pool = open_pool(replicas=1)
    goal = "member(X, [1, 2]), write(X), write(user_error, e(X)) ; write(bye), write(user_error, oh), fail"

    query = pool.query(goal, stream=stream)
    assert [(answer.stdout, answer.stderr) for answer in query] == [("1", "e(1)"), ("2", "e(2)")]
    assert (query.stdout, query.stderr) == ("bye", "oh")
    query = pool.query("write(before), throw(x)", stream=stream)
    with pytest.raises(PrologError):
        next(query)
    assert query.stdout == "before"


def test_what_a_stream_throws_comes_when_it_is_due(open_pool: Open) -> None:
    pool = open_pool(replicas=1)

    query = pool.query("member(X, [1, 2]) ; throw(late)", stream=True)
    assert [next(query)["X"], next(query)["X"]] == [1, 2]
    with pytest.raises(PrologError, match="late"):
        next(query)
    assert list(query) == []
    assert settled(pool)


def test_a_stream_s_timeout_is_for_its_own_work(open_pool: Open) -> None:
    pool = open_pool(replicas=1, program=COUNTER)

    query = pool.query("member(X, [1, 2]), X > 0 ; repeat, fail", stream=True, timeout=1.0)
    assert next(query) == {"X": 1}
    threading.Event().wait(1.1)
    assert next(query) == {"X": 2}
    with pytest.raises(GuestTimeoutError, match=r"1\.0 s"):
        next(query)
    assert list(query) == []
    assert settled(pool)
    assert pool.query_once("n(N)") == {"N": 0}


def test_forgotten_streams_are_given_back(open_pool: Open) -> None:
    pool = open_pool(replicas=2, program=COUNTER)

    for _ in range(5):
        query = pool.query("up(_), repeat", stream=True)
        next(query)
        circle: list[Any] = [query]
        circle.append(circle)
        del query, circle
        # A thread that has told its task of the answer may hold the query a moment longer.
        while not settled(pool):
            gc.collect()
        assert [pool.query_once("n(N)")["N"] for _ in range(4)] == [0] * 4


def test_only_so_many_streams_are_open(open_pool: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replicate.core.MAX_PINNED", 3)
    pool = open_pool(replicas=1)

    streams = [pool.query("repeat", stream=True) for _ in range(4)]
    for stream in streams[:3]:
        next(stream)
    with pytest.raises(PoolError, match="3 reads"):
        next(streams[3])
    assert pool.query_once("true") == {}
    for stream in streams:
        stream.close()
    assert settled(pool)


def test_wrong_limits_and_places_are_refused_and_lose_nothing(wasm: Path) -> None:
    with PrologPool(wasm=wasm, replicas=1) as pool:
        with pytest.raises(ArgumentRangeError, match="-1"):
            pool.query("true", limit=-1, stream=True)
        with pool.reading(), pytest.raises(NestedTransactionError):
            next(pool.query("true", stream=True))
        with pytest.raises(ArgumentTypeError):
            next(pool.query("true", stream=True, timeout="soon"))  # type: ignore[arg-type]
        assert settled(pool)


def test_a_stream_goes_on_inside_a_write(wasm: Path) -> None:
    with PrologPool(wasm=wasm, replicas=1, program=COUNTER) as pool:
        numbers = pool.query("between(1, 3, X)", stream=True)
        assert next(numbers) == {"X": 1}
        with pool.writing() as writer:
            for number in numbers:
                writer.execute("assertz(n(X))", bindings=number)
        assert pool.query_all("n(X)") == [{"X": 0}, {"X": 2}, {"X": 3}]


def test_two_threads_cannot_take_the_same_answer(wasm: Path) -> None:
    with PrologPool(wasm=wasm, replicas=1, program=COUNTER) as pool:
        query = pool.query("repeat, slow(300000)", stream=True)
        told: list[BaseException] = []
        start = threading.Barrier(3)

        def take() -> None:
            start.wait()
            try:
                for _ in range(20):
                    next(query)
            except BaseException as error:
                told.append(error)

        threads = [threading.Thread(target=take) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        query.close()
        assert all(isinstance(error, ConcurrentUseError) for error in told), told
        assert pool.query_once("n(N)") == {"N": 0}


def test_a_stream_left_in_a_transaction_is_stopped_at_its_next_use(single: Prolog) -> None:
    query = single.query("member(X, [1, 2, 3])", stream=True)
    assert next(query) == {"X": 1}
    del query
    assert single.query_all("member(X, [7])") == [{"X": 7}]
    assert not single._guest.state["trealla"][-1], "the server serves again"


# -- what only asyncio has ---------------------------------------------------------------------------------------------


def asynchronously(wasm: Path, body: Callable[[AsyncPrologPool], Any], **options: Any) -> None:
    async def main() -> None:
        async with AsyncPrologPool(wasm=wasm, program=COUNTER, **options) as pool:
            await body(pool)
            while not settled(pool):
                await asyncio.sleep(0.001)
            assert await pool.query_once("n(N)") == {"N": 0}

    asyncio.run(main())


def test_answers_are_taken_with_async_for_in_one_task(wasm: Path) -> None:
    async def body(pool: AsyncPrologPool) -> None:
        seen = []
        async for one in pool.query("between(1, 3, X)", stream=True):
            async for two in pool.query("between(1, 2, Y)", stream=True):
                seen.append((one["X"], two["Y"], await pool.query_once("n(N)")))
                break
        assert seen == [(x, 1, {"N": 0}) for x in (1, 2, 3)]
        assert await pool.query("between(1, 9, X)", stream=True).all(limit=2) == [{"X": 1}, {"X": 2}]
        assert await pool.query("between(1, 9, X)").first() == {"X": 1}
        async with pool.query("up(N)", stream=True) as query:
            assert [answer async for answer in query] == [{"N": 1}]

    asynchronously(wasm, body, replicas=1)


def test_a_cancelled_task_stops_its_goal(wasm: Path) -> None:
    async def body(pool: AsyncPrologPool) -> None:
        async def take() -> None:
            async for _ in pool.query("up(_), member(X, [1, 2]), X > 1, repeat, fail", stream=True):
                raise AssertionError

        for work in (
            take(),
            pool.query_once("up(_), repeat, fail"),
            pool.query_all("repeat, fail"),
            pool.execute("up(_), repeat, fail"),
        ):
            task = asyncio.ensure_future(work)
            while not (pool.stats().reading or pool.stats().writing):
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert pool.version == 0

    asynchronously(wasm, body, replicas=1)


def test_a_hundred_tasks_stream_at_once(wasm: Path) -> None:
    async def body(pool: AsyncPrologPool) -> None:
        async def take(number: int) -> None:
            goal = "between(1, 20, X), Y is X * N"
            answers = [answer["Y"] async for answer in pool.query(goal, bindings={"N": number}, stream=True)]
            assert answers == [x * number for x in range(1, 21)]

        await asyncio.gather(*[take(number) for number in range(100)])

    asynchronously(wasm, body, replicas=2)


def test_an_async_pool_says_when_it_is_not_open(wasm: Path) -> None:
    async def main() -> None:
        pool = AsyncPrologPool(wasm=wasm)
        assert repr(pool) == "<AsyncPrologPool, not open>"
        with pytest.raises(PoolError, match="async with"):
            await pool.query_once("true")
        await pool.close()
        assert await (await pool).query_once("true") == {}
        async with pool.branch() as branch:
            await branch.consult_text("p(1).")
            assert await branch.query_once("p(X)") == {"X": 1}
        with pytest.raises(PrologError):
            await pool.query_once("p(X)")
        await pool.close()

    asyncio.run(main())


def test_an_awaited_guest_is_no_interpreter_s(wasm: Path) -> None:
    async def body(pool: AsyncPrologPool) -> None:
        async with pool.pool.reading() as guest:
            assert isinstance(guest, AsyncGuest)
            with pytest.raises(ArgumentTypeError, match="AsyncInterpreter"):
                Interpreter(guest)  # type: ignore[arg-type]
            assert await AsyncInterpreter(guest).query_all("n(N)") == [{"N": 0}]

    asynchronously(wasm, body, replicas=1)
