"""Prolog on a pool: answers, writes that are all or nothing, and what goes wrong."""

from __future__ import annotations

import asyncio
import math
import random
import shutil
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from replicate.errors import (
    CacheError,
    ChecksumError,
    GuestTimeoutError,
    PoolClosedError,
    ReplicateError,
)
from replicate_trealla import (
    Answer,
    AsyncPrologPool,
    Atom,
    Compound,
    ConsultError,
    Prolog,
    PrologError,
    PrologPool,
    PrologSyntaxError,
    TermError,
    Variable,
    fetch,
    queries,
)


def rows(answers: Any) -> list[tuple[Any, ...]]:
    """Give answers as tuples of plain text."""
    return sorted(tuple(str(value) for value in answer.values()) for answer in answers)


def test_a_consulted_program_answers_on_replicas(pool: PrologPool) -> None:
    assert rows(pool.query("path(X, Y)")) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert pool.query_once("path(a, X)") == {"X": Atom("b")}
    assert pool.query_once("path(c, X)") is None
    assert pool.query_all("path(X, Y)", limit=2) == pool.query_all("path(X, Y)")[:2]
    assert pool.query_all("fail") == []
    assert pool.query_once("true") == {}


def test_a_write_is_seen_by_the_next_reads(pool: PrologPool) -> None:
    version = pool.version
    assert pool.execute("assertz(edge(c, d))") == {}
    assert pool.version == version + 1
    for _ in range(4):
        assert rows(pool.query("path(c, X)")) == [("d",)]
    pool.consult_text("double(X, Y) :- Y is X * 2.")
    assert pool.query_once("double(21, X)") == {"X": 42}


@pytest.mark.parametrize(
    "goal", ["assertz(edge(x, y)), fail", "assertz(edge(x, y)), throw(no)", "assertz(edge(x, y)), nope"]
)
def test_a_write_that_fails_or_throws_changes_nothing(pool: PrologPool, goal: str) -> None:
    version = pool.version
    if goal.endswith("fail"):
        assert pool.execute(goal) is None
    else:
        with pytest.raises(PrologError):
            pool.execute(goal)
    assert pool.version == version
    assert pool.query_all("edge(x, Y)") == []
    pool.execute("assertz(edge(q, r))")
    assert rows(pool.query("edge(X, Y)")) == [("a", "b"), ("b", "c"), ("q", "r")]


@pytest.mark.parametrize(
    "text",
    [
        "good(1). bad(. good(2).",
        "good(1). bad(",
        "good(1). bad([1, 2). good(2).",
        "good(1). bad(2)",
        "good(1). bad('unterminated). good(2).",
        "good(1). :- throw(oops).",
        "good(1). :- initialization(throw(oops)).",
        "good(1). a b c.",
        "good(1). 3 :- true.",
        "good(1).\nbad(\x00).",
    ],
)
def test_a_program_that_is_not_taken_whole_is_not_taken_at_all(pool: PrologPool, text: str) -> None:
    version = pool.version
    with pytest.raises((ConsultError, ReplicateError)):
        pool.consult_text(text)
    assert pool.version == version
    with pytest.raises(PrologError) as caught:
        pool.query_once("good(X)")
    assert isinstance(caught.value.ball, Compound)
    assert pool.query_once("edge(a, X)") == {"X": Atom("b")}


def test_a_syntax_error_says_where(pool: PrologPool) -> None:
    with pytest.raises(PrologSyntaxError) as caught:
        pool.consult_text("fine(1).\nfine(2).\nnot fine(.\n")
    assert caught.value.line == 3


def test_an_unknown_predicate_is_an_existence_error(pool: PrologPool) -> None:
    with pytest.raises(PrologError, match="nope/1") as caught:
        pool.query_once("nope(X)")
    ball = caught.value.ball
    assert isinstance(ball, Compound)
    assert ball.functor == "error"
    assert "existence_error" in str(ball.args[0])


@pytest.mark.parametrize("goal", ["foo(", ")", "a b", "X = 'x", "", "   ", "true. true", "X = \x00", "[1,2"])
def test_a_goal_that_is_no_goal_is_a_syntax_error(pool: PrologPool, goal: str) -> None:
    with pytest.raises(PrologSyntaxError):
        pool.query_once(goal)
    assert pool.query_once("true") == {}


def test_what_a_goal_writes_comes_with_its_answers(pool: PrologPool) -> None:
    answers = pool.query_all("member(X, [1, 2]), write(x(X)), nl")
    assert [answer["X"] for answer in answers] == [1, 2]
    assert "".join(answer.stdout for answer in answers) == "x(1)\nx(2)\n"


def test_numbers_keep_their_kind(pool: PrologPool) -> None:
    answer = pool.query_once('A is 2 ** 100, B is 1.0, C is 1 rdiv 3, D = "text", E = [x, 1, []], F = Y')
    assert answer is not None
    assert (answer["A"], answer["B"], answer["C"], answer["D"]) == (2**100, 1.0, Fraction(1, 3), "text")
    assert isinstance(answer["B"], float)
    assert pool.query_once("X = F, float(F)", bindings={"F": 1.0}) is not None
    assert isinstance(answer["F"], Variable) or "F" not in answer


@pytest.mark.parametrize("value", [object(), {1: object()}, {1, 2}, math.nan, 3j])
def test_what_is_no_term_is_refused(pool: PrologPool, value: Any) -> None:
    with pytest.raises(TermError):
        pool.query_once("true", bindings={"X": value})


@pytest.mark.parametrize("text", ["'), halt, atom('", 'x"), halt. "', "\\", "a\nb", "%", "/*", "', X = '"])
def test_bindings_cannot_inject_goals(pool: PrologPool, text: str) -> None:
    for value in (text, Atom(text)):
        answer = pool.query_once("Y = X", bindings={"X": value})
        assert answer is not None
        assert answer["Y"] == value


def test_an_endless_goal_is_stopped_and_the_pool_goes_on(pool: PrologPool) -> None:
    pool.consult_text("forever :- forever.")
    for _ in range(2):
        with pytest.raises(GuestTimeoutError):
            pool.query_once("forever", timeout=0.2)
        with pytest.raises(GuestTimeoutError):
            pool.execute("assertz(edge(y, y)), forever", timeout=0.2)
    assert rows(pool.query("edge(X, Y)")) == [("a", "b"), ("b", "c")]


def test_endless_answers_can_be_taken_one_by_one(pool: PrologPool) -> None:
    answers = pool.query("repeat, X = 1", stream=True)
    assert [next(answers)["X"] for _ in range(5)] == [1] * 5
    assert pool.query_once("true") == {}
    answers.close()
    assert list(answers) == []
    assert len(pool.query_all("repeat", limit=50)) == 50


def test_a_memory_limit_never_looks_like_no_answer(wasm: Path) -> None:
    with PrologPool(
        wasm=wasm, replicas=1, max_memory=48 << 20, program="big(0, []) :- !. big(N, [N|T]) :- M is N-1, big(M, T)."
    ) as pool:
        with pytest.raises(ReplicateError):
            pool.query_once("big(100000000, L)", timeout=60)
        assert pool.query_once("big(3, L)") == {"L": [3, 2, 1]}


def test_halting_costs_one_transaction_only(pool: PrologPool) -> None:
    for transaction in (pool.query_once, pool.execute):
        with pytest.raises(ReplicateError):
            transaction("halt")
    assert pool.query_once("edge(a, X)") == {"X": Atom("b")}


def test_files_are_consulted_all_or_none(pool: PrologPool, tmp_path: Path) -> None:
    (tmp_path / "one.pl").write_text("one(1).\n")
    (tmp_path / "two.pl").write_text("two(2).\n")
    (tmp_path / "bad.pl").write_text("three(3).\nthree(\n")
    pool.consult(tmp_path / "one.pl", tmp_path / "two.pl")
    assert pool.query_once("one(X), two(Y)") == {"X": 1, "Y": 2}
    (tmp_path / "four.pl").write_text("four(4).\n")
    with pytest.raises(ConsultError, match=r"bad\.pl"):
        pool.consult(tmp_path / "four.pl", tmp_path / "bad.pl")
    with pytest.raises(PrologError):
        pool.query_once("four(X)")


def test_the_strict_rule_keeps_reads_apart(wasm: Path) -> None:
    with PrologPool(wasm=wasm, replicas=1, reset="each_read", program=":- dynamic(seen/1). seen(0).") as pool:
        for _ in range(3):
            assert pool.query_all("assertz(seen(1)), findall(X, seen(X), L)") != []
            assert rows(pool.query("seen(X)")) == [("0",)]


def test_every_answer_under_32_threads_is_right(wasm: Path) -> None:
    program = ":- dynamic(count/1). count(0). bump(N) :- retract(count(M)), N is M + 1, assertz(count(N))."
    wrong: list[Any] = []
    written = [0]
    with PrologPool(wasm=wasm, replicas=3, program=program) as pool:

        def work(number: int) -> None:
            rng = random.Random(number)
            for _ in range(12):
                try:
                    choice = rng.random()
                    if choice < 0.2:
                        answer = pool.execute("bump(N)")
                        assert answer is not None
                        written.append(answer["N"])
                    elif choice < 0.3:
                        with pytest.raises(PrologError):
                            pool.execute("bump(N), throw(no)")
                    else:
                        known = max(written)
                        answers = pool.query_all("count(X)")
                        if len(answers) != 1 or answers[0]["X"] < known:
                            wrong.append((known, answers))
                        square = pool.query_once("Y is X * X", bindings={"X": number})
                        if square is None or square["Y"] != number * number:
                            wrong.append((number, square))
                except BaseException as error:
                    wrong.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert sorted(written) == list(range(len(written)))
        answer = pool.query_once("count(X)")
        assert answer == {"X": max(written)}
        assert pool.stats().idle == 3


def test_one_interpreter_without_a_pool(trealla: Path) -> None:
    with Prolog(wasm=trealla, program="p(1). p(2).") as prolog:
        assert [answer["X"] for answer in prolog.query("p(X)")] == [1, 2]
        with pytest.raises(ConsultError):
            prolog.consult_text("q(1). q(")
        with pytest.raises(PrologError):
            prolog.query_once("q(X)")
        prolog.consult_text("q(7).")
        assert prolog.query_once("q(X)") == {"X": 7}
    with pytest.raises(ReplicateError):
        prolog.query_once("true")


def test_a_closed_pool_says_so(trealla: Path) -> None:
    pool = PrologPool(wasm=trealla, replicas=1)
    pool.close()
    with pytest.raises(PoolClosedError):
        pool.query_once("true")


def test_what_is_not_trealla_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.wasm").write_bytes(b"\0asm\1\0\0\0")
    with pytest.raises(ReplicateError, match="Trealla"):
        PrologPool(wasm=tmp_path / "other.wasm")
    with pytest.raises(CacheError, match=r"missing\.wasm"):
        PrologPool(wasm=tmp_path / "missing.wasm")


def test_without_npm_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REPLICATE_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("REPLICATE_TREALLA_WASM", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name, *args, **named: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CacheError, match="npm"):
        PrologPool()


def test_a_wrong_checksum_keeps_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trealla: Path) -> None:
    monkeypatch.setenv("REPLICATE_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("REPLICATE_TREALLA_WASM", raising=False)
    monkeypatch.setattr(fetch, "DIGEST", "0" * 64)
    if shutil.which("npm") is None:
        pytest.skip("npm isn't installed")
    with pytest.raises(ChecksumError):
        fetch.fetch()
    assert not list(tmp_path.rglob("*.wasm"))


def test_many_answers_dont_keep_the_event_loop(wasm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[int] = set()
    right = queries.decode_answer

    def decode(*message: bytes) -> Answer:
        threads.add(threading.get_ident())
        return right(*message)

    monkeypatch.setattr(queries, "decode_answer", decode)

    async def main() -> None:
        async with AsyncPrologPool(wasm=wasm, replicas=1) as pool:
            answers = await pool.query_all("between(1, 5000, X)")
            assert [answer["X"] for answer in answers] == [*range(1, 5001)]
            assert threading.get_ident() not in threads
            query = pool.query("between(1, 1000, X), (X =:= 900 -> throw(late) ; true)")
            assert await query.__anext__() == {"X": 1}
            with pytest.raises(PrologError, match="late"):
                await query.all()

    asyncio.run(main())
