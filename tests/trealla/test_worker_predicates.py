"""Python predicates and functions for output, of pools whose guests are in worker processes: they run where the pool is."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from counted import Counted, check_that_streams_are_closed_with_their_transaction

from replicate.errors import (
    EngineUnavailableError,
    GuestTimeoutError,
    NestedTransactionError,
    WorkerDiedError,
)
from replicate.processes.interpreters import find_interpreter
from replicate_trealla import AsyncPrologPool, Atom, Compound, Goal, PrologError, PrologPool

if sys.platform != "linux":
    pytest.skip("worker processes are for Linux", allow_module_level=True)

Open = Callable[..., PrologPool]


class WrongError(Exception):
    """Be known by its identity."""


@pytest.fixture(params=["wasmtime", "wasmer"])
def open_pool(request: pytest.FixtureRequest, wasm: Path) -> Iterator[Open]:
    """Give a function that opens pools of workers, to be closed at the end."""
    try:
        find_interpreter(request.param)
    except EngineUnavailableError as missing:
        pytest.skip(str(missing))
    pools: list[PrologPool] = []

    def open_one(**options: Any) -> PrologPool:
        pools.append(PrologPool(wasm=wasm, engine=request.param, workers="processes", **{"replicas": 1, **options}))
        return pools[-1]

    yield open_one
    for opened in pools:
        opened.close()


def test_functions_run_here_and_know_what_they_know_here(open_pool: Open) -> None:
    seen: list[Any] = []

    def square(x: int, y: Any) -> int:
        seen.append((x, os.getpid(), threading.get_ident()))
        return x * x

    pool = open_pool(predicates={"square/2": square}, program=":- dynamic(known/1).")
    pool.register("upto/2", lambda n, x: iter(range(n)))
    pool.register("calls/1", lambda x: Goal(Compound("member", (x, [1, 2]))))

    assert pool.query_once("square(7, X)") == {"X": 49}
    assert seen[0][:2] == (7, os.getpid())
    assert [answer["Y"] for answer in pool.query_all("upto(4, X), square(X, Y)")] == [0, 1, 4, 9]
    assert [answer["X"] for answer in pool.query("upto(3, X)", stream=True)] == [0, 1, 2]
    assert pool.query_all("calls(X)") == [{"X": 1}, {"X": 2}]
    assert pool.execute("upto(5, X), X > 2, assertz(known(X))") == {"X": 3}
    with pool.writing() as prolog:
        assert prolog.query_once("known(X), square(X, Y)") == {"X": 3, "Y": 9}


def test_long_messages_go_both_ways(open_pool: Open) -> None:
    pool = open_pool(predicates={"twice/2": lambda text, _: text + text})
    text = "\u00e4" * 70_000
    assert pool.query_once("twice(T, X)", bindings={"T": text}) == {"T": text, "X": 2 * text}


def test_programs_call_them_while_they_are_loaded(open_pool: Open) -> None:
    seen: list[int] = []
    pool = open_pool(
        predicates={"note/1": seen.append},
        program=":- initialization(note(1)).",
    )
    pool.consult_text(":- initialization((note(2), note(3))).")
    assert seen == [1, 2, 3]


def test_what_they_raise_comes_back_as_it_was(open_pool: Open) -> None:
    error = WrongError("mine")

    def fails(x: object) -> None:
        raise error

    def fails_later(x: object) -> Iterator[int]:
        yield 1
        raise error

    pool = open_pool(predicates={"fails/1": fails, "later/1": fails_later})
    asks: list[Callable[[], object]] = [
        lambda: pool.query_once("fails(X)"),
        lambda: pool.query_all("member(X, [1, 2]), X > 1, fails(X)"),
        lambda: pool.execute("fails(X)"),
        lambda: list(pool.query("fails(X)", stream=True)),
        lambda: inside(pool.reading()),
        lambda: inside(pool.writing()),
        lambda: pool.query_all("later(X)"),
    ]

    def inside(opened: Any) -> None:
        with opened as prolog:
            goal = "catch(fails(1), error(python_error(Kind, Text), _), true)"
            assert prolog.query_once(goal) == {"Kind": Atom("WrongError"), "Text": "mine"}
            prolog.query_all("fails(X)")

    for ask in asks:
        with pytest.raises(WrongError) as caught:
            ask()
        assert caught.value is error
        assert pool.query_once("X = 1") == {"X": 1}
    with pytest.raises(PrologError, match="type_error"):
        pool.query_once("X is a + 1")


def test_generators_are_closed(open_pool: Open) -> None:
    counted = Counted()
    pool = open_pool(predicates={"upto/2": counted.upto})
    assert pool.query_once("upto(3, X)") == {"X": 0}
    assert counted.ended == [3]
    assert pool.query_all("upto(4, X), !") == [{"X": 0}]
    assert counted.ended == [3, 4]
    stream = pool.query("upto(5, X)", stream=True)
    next(stream)
    assert counted.ended == [3, 4]
    stream.close()
    assert counted.ended == [3, 4, 5]
    with pytest.raises(GuestTimeoutError):
        pool.query_once("upto(6, X), repeat, fail", timeout=0.3)
    assert counted.ended == [3, 4, 5, 6]


def test_one_whose_worker_is_killed_is_closed(open_pool: Open) -> None:
    counted = Counted()
    instances: list[Any] = []

    def kill() -> None:
        instances[0].process.kill()

    pool = open_pool(predicates={"upto/2": counted.upto, "kill/0": kill})
    instances += pool.pool._core.instances.values()
    with pytest.raises(WorkerDiedError):
        pool.query_once("upto(2, X), kill")
    assert counted.ended == [2]
    assert pool.query_all("upto(2, X)") == [{"X": 0}, {"X": 1}]


def test_they_cannot_use_the_pool_that_calls_them(open_pool: Open) -> None:
    pool = open_pool()
    pool.register("again/1", lambda x: pool.query_once("X = 1")["X"])  # type: ignore[index]
    with pytest.raises(NestedTransactionError):
        pool.query_once("again(X)")
    assert pool.query_once("X = 1") == {"X": 1}


def test_many_threads_call_at_once(open_pool: Open) -> None:
    pool = open_pool(replicas=2, predicates={"double/2": lambda x, y: 2 * x})
    wrong: list[Any] = []

    def work(me: int) -> None:
        for number in range(10):
            answers = pool.query_all("between(1, 9, X), Z is X * N, double(Z, Y)", bindings={"N": me * 100 + number})
            if [answer["Y"] for answer in answers] != [2 * x * (me * 100 + number) for x in range(1, 10)]:
                wrong.append((me, number))

    threads = [threading.Thread(target=work, args=(me,)) for me in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_asyncio(wasm: Path) -> None:
    error = WrongError()

    def fails() -> None:
        raise error

    async def main() -> None:
        options: dict[str, Any] = {"predicates": {"double/2": lambda x, y: 2 * x, "fails/0": fails}}
        async with AsyncPrologPool(wasm=wasm, replicas=1, workers="processes", **options) as pool:
            await pool.register("half/2", lambda x, y: x // 2)
            assert await pool.query_once("double(4, X), half(X, Y)") == {"X": 8, "Y": 4}
            assert [answer["X"] async for answer in pool.query("double(3, X)", stream=True)] == [6]
            for ask in (pool.query_once, pool.execute):
                with pytest.raises(WrongError) as caught:
                    await ask("fails")
                assert caught.value is error
            async with pool.reading() as prolog:
                with pytest.raises(WrongError):
                    await prolog.query_once("fails")

    asyncio.run(main())


def test_output_goes_to_functions_and_loggers_here(open_pool: Open, caplog: pytest.LogCaptureFixture) -> None:
    lines: list[str] = []
    pool = open_pool(stdout=lines.append, stderr=logging.getLogger("of.prolog"))
    with caplog.at_level(logging.INFO):
        answer = pool.query_once("write(a), nl, write(b), write(user_error, 'e\\nf')")
    assert answer is not None
    assert (answer.stdout, answer.stderr, lines) == ("a\nb", "e\nf", ["a", "b"])
    assert [(record.name, record.getMessage()) for record in caplog.records] == [("of.prolog", "e"), ("of.prolog", "f")]


def test_a_function_for_output_that_raises_ends_no_goal(open_pool: Open, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(line: str) -> None:
        raise WrongError(line)

    pool = open_pool(stdout=refuse)
    assert pool.query_once("write(a), nl, X = 1") == {"X": 1}
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [WrongError]


class Interrupted(BaseException):
    """Be no error."""


def test_what_a_function_for_output_raises_that_is_no_error_ends_the_goal(open_pool: Open) -> None:
    def refuse(line: str) -> None:
        raise Interrupted

    pool = open_pool(stdout=refuse)
    with pytest.raises(Interrupted):
        pool.query_once("write(a), nl")
    assert pool.query_once("X = 1") == {"X": 1}


def test_exceptions_that_goals_have_caught_are_forgotten(open_pool: Open) -> None:
    known: list[weakref.ref[Exception]] = []

    def boom() -> None:
        error = WrongError()
        known.append(weakref.ref(error))
        raise error

    pool = open_pool(predicates={"boom/0": boom})
    with pool.writing() as prolog:
        for _ in range(3):
            assert prolog.query_once("catch(boom, _, true)") == {}
        gc.collect()
        assert [reference() for reference in known] == [None] * 3


def test_what_streams_have_left_open_is_closed_with_their_transaction(open_pool: Open) -> None:
    check_that_streams_are_closed_with_their_transaction(open_pool)
