"""What could go wrong between an interpreter and a pool of its replicas."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from replicate import Pool
from replicate.errors import (
    DeadHandleError,
    GuestTimeoutError,
    NotReplicableError,
    Trap,
)
from replicate.wasi import FixedClock
from replicate_trealla import (
    Atom,
    Interpreter,
    InterpreterError,
    PrologError,
    PrologPool,
    TreallaAdapter,
)

Open = Callable[..., PrologPool]
COUNTER = ":- dynamic(n/1). n(0). up(N) :- retract(n(M)), N is M + 1, assertz(n(N))."


def test_replicas_hold_the_leader_s_facts_at_once(open_pool: Open) -> None:
    pool = open_pool(replicas=3, program=COUNTER)

    for count in range(1, 30):
        assert pool.execute("up(N)") == {"N": count}
        assert [pool.query_once("n(N)") for _ in range(3)] == [{"N": count}] * 3
    assert pool.version == 29


def test_the_strict_rule_forgets_what_each_read_changes(open_pool: Open) -> None:
    pool = open_pool(replicas=1, program=COUNTER, reset="each_read")

    for _ in range(3):
        assert pool.query_once("up(N)") == {"N": 1}
        with pytest.raises(PrologError):
            pool.query_once("set_prolog_flag(double_quotes, codes), up(_), throw(x)")
        assert pool.query_once('X = "ab", n(N)') == {"X": "ab", "N": 0}


def test_a_read_s_transaction_sees_one_version(open_pool: Open) -> None:
    pool = open_pool(replicas=2, program=COUNTER)

    with pool.reading() as reader:
        assert reader.query_once("n(N)") == {"N": 0}
        writer = threading.Thread(target=pool.execute, args=("up(_)",))
        writer.start()
        writer.join()
        assert reader.query_once("n(N)") == {"N": 0}
    assert pool.query_once("n(N)") == {"N": 1}


def test_a_write_s_transaction_is_all_or_nothing(open_pool: Open) -> None:
    pool = open_pool(replicas=2, program=COUNTER)

    with pool.writing() as writer:
        writer.consult_text("m(1).")
        assert writer.execute("up(N)") == {"N": 1}
        assert writer.execute("up(N), fail") is None  # rolls nothing back here
        assert writer.query_all("n(N)") == [{"N": 2}]
    assert pool.query_once("n(N), m(M)") == {"N": 2, "M": 1}
    with pytest.raises(ZeroDivisionError), pool.writing() as writer:
        writer.consult_text("m(2).")
        writer.execute("up(_)")
        raise ZeroDivisionError
    assert pool.query_all("n(N), m(M)") == [{"N": 2, "M": 1}]
    assert pool.version == 1


def test_handles_die_with_their_transaction(open_pool: Open) -> None:
    pool = open_pool(replicas=1)

    with pool.reading() as reader:
        answers = reader.query("member(X, [1, 2, 3])", stream=True)
        assert next(answers) == {"X": 1}
        collected = reader.query("member(X, [1, 2, 3])")
    with pytest.raises(DeadHandleError):
        reader.query_once("true")
    with pytest.raises(DeadHandleError):
        next(answers)
    assert [answer["X"] for answer in collected] == [1, 2, 3]


@pytest.mark.parametrize("reset", ["on_commit", "each_read"])
def test_a_stream_left_behind_disturbs_nobody(open_pool: Open, reset: str) -> None:
    pool = open_pool(replicas=1, program=COUNTER, reset=reset)

    for _ in range(3):
        with pool.reading() as reader:
            left = reader.query("member(X, [1, 2, 3])", stream=True)
            next(left)
        assert pool.query_once("n(N)") == {"N": 0}
        assert list(pool.query("member(X, [7, 8])", stream=True)) == [{"X": 7}, {"X": 8}]
        del left
        gc.collect()
        assert pool.query_all("member(X, [9])") == [{"X": 9}]


def test_a_stream_left_behind_by_a_write_reaches_no_replica(open_pool: Open) -> None:
    pool = open_pool(replicas=2, program=COUNTER)

    with pool.writing() as writer:
        left = writer.query("member(X, [1, 2, 3])", stream=True)
        next(left)
        writer.execute("up(_)")
    assert [pool.query_once("n(N)") for _ in range(4)] == [{"N": 1}] * 4
    assert list(pool.query("member(X, [7, 8])", stream=True)) == [{"X": 7}, {"X": 8}]
    assert pool.execute("up(N)") == {"N": 2}
    assert [pool.query_once("n(N)") for _ in range(4)] == [{"N": 2}] * 4


def test_a_stream_holds_its_replica_and_its_version(open_pool: Open) -> None:
    pool = open_pool(replicas=1, program=COUNTER)
    answers = pool.query("n(N), member(X, [1, 2, 3])", stream=True)

    assert next(answers) == {"N": 0, "X": 1}
    for count in range(1, 4):
        assert pool.execute("up(N)") == pool.query_once("n(N)") == {"N": count}
    assert next(answers) == {"N": 0, "X": 2}
    assert pool.stats().reading == 1
    del answers
    gc.collect()
    assert pool.stats().reading == 0
    assert pool.query_once("n(N)") == {"N": 3}


def test_an_exhausted_stream_gives_its_replica_back(open_pool: Open) -> None:
    pool = open_pool(replicas=1)

    for _ in range(3):
        assert len(list(pool.query("member(X, [1, 2, 3])", stream=True, limit=2))) == 2
        assert len(list(pool.query("member(X, [1, 2, 3])", stream=True))) == 3
        with pytest.raises(PrologError):
            list(pool.query("throw(x)", stream=True))
        assert pool.query_once("true") == {}


def test_answers_can_be_taken_while_the_pool_is_used(open_pool: Open) -> None:
    pool = open_pool(replicas=1, program=COUNTER)

    seen = [(answer["X"], pool.execute("up(N)")) for answer in pool.query("member(X, [1, 2])")]
    assert seen == [(1, {"N": 1}), (2, {"N": 2})]


@pytest.mark.parametrize("bad", ["halt", "halt(3)"])
def test_halting_loses_nothing_but_its_transaction(open_pool: Open, bad: str) -> None:
    pool = open_pool(replicas=2, program=COUNTER)

    for _ in range(3):
        for call in (pool.query_once, pool.query_all, pool.execute):
            with pytest.raises(InterpreterError, match="ended the interpreter"):
                call(f"up(_), {bad}")
        with pytest.raises(InterpreterError):
            list(pool.query(bad, stream=True))
        assert [pool.query_once("n(N)") for _ in range(3)] == [{"N": 0}] * 3
    assert pool.execute("up(N)") == {"N": 1}


def test_a_trap_loses_nothing_but_its_transaction(open_pool: Open) -> None:
    pool = open_pool(replicas=2, program=COUNTER)
    nested = "s(" * 30_000 + "z" + ")" * 30_000

    for call in (pool.query_once, pool.execute):
        with pytest.raises(Trap):
            call(f"up(_), X = {nested}")
        assert [pool.query_once("n(N)") for _ in range(3)] == [{"N": 0}] * 3
    assert pool.execute("up(N)") == {"N": 1}


def test_an_interpreter_that_ended_can_be_asked_no_more_in_its_transaction(open_pool: Open) -> None:
    pool = open_pool(replicas=1)

    with pytest.raises(InterpreterError, match="has ended"), pool.reading() as reader:
        with pytest.raises(InterpreterError):
            reader.query_once("halt")
        reader.query_once("true")
    assert pool.query_once("true") == {}


@pytest.mark.parametrize("goal", ["loop", "repeat, fail", "between(1, 1000000000, _), fail"])
def test_endless_goals_are_interrupted_and_rolled_back(open_pool: Open, goal: str) -> None:
    pool = open_pool(replicas=1, program=f"{COUNTER} loop :- loop.")

    for call in (pool.query_once, pool.execute):
        began = time.monotonic()
        with pytest.raises(GuestTimeoutError):
            call(f"up(_), {goal}", timeout=0.1)
        assert time.monotonic() - began < 5
        assert pool.query_once("n(N)") == {"N": 0}
    with pytest.raises(GuestTimeoutError):
        list(pool.query(f"member(X, [1, 2]), X > 1, {goal}", stream=True, timeout=0.1))
    assert pool.query_once("n(N)") == {"N": 0}


@pytest.mark.parametrize(
    "goal", ["length(L, 100000000)", "down(0)", "numlist(1, 50000000, L)", "findall(X, repeat, L)", "\\+ down(0)"]
)
def test_no_memory_is_an_error_and_not_a_failure(open_pool: Open, goal: str) -> None:
    program = f"{COUNTER} down(N) :- M is N + 1, down(M), true."
    pool = open_pool(replicas=1, program=program, max_memory=48 << 20)

    for call in (pool.query_once, pool.query_all, pool.execute):
        with pytest.raises((InterpreterError, PrologError), match=r"memory"):
            call(goal, timeout=60)
        assert pool.query_once("n(N)") == {"N": 0}
    assert pool.execute("up(N)") == {"N": 1}


def test_replicas_draw_numbers_of_their_own_unless_seeded(open_pool: Open) -> None:
    def draw(pool: PrologPool) -> list[object]:
        answers = []
        with pool.reading() as one:
            answers.append(one.query_once("X is random_integer"))
            thread = threading.Thread(target=lambda: answers.append(pool.query_once("X is random_integer")))
            thread.start()
            thread.join()
        return answers

    same, different = open_pool(replicas=2, seed=1), open_pool(replicas=2)
    for pool in (same, different):
        pool.execute("_ is random_integer")
    ones, others = draw(same), draw(different)
    assert ones[0] == ones[1] is not None
    assert others[0] != others[1]


def test_folders_can_be_given(open_pool: Open, tmp_path: Path) -> None:
    (tmp_path / "facts.pl").write_text("fact(1).\nfact(2).\n")
    pool = open_pool(replicas=2, preopens={"/data": tmp_path})

    pool.execute("consult('/data/facts.pl')")
    assert [answer["X"] for answer in pool.query("fact(X)")] == [1, 2]
    goal = "open('/data/facts.pl', read, S), read(S, X), close(S)"
    assert [str(pool.query_once(goal)["X"]) for _ in range(4)] == ["fact(1)"] * 4  # type: ignore[index]


def test_a_clock_of_ones_own_can_be_given(open_pool: Open) -> None:
    pool = open_pool(replicas=1, clock=FixedClock(1_000_000_000_000_000_000))

    assert pool.query_once("now(T)") == {"T": 1_000_000_000}


def test_environment_variables_can_be_given(open_pool: Open) -> None:
    assert open_pool(replicas=1, env={"COLOUR": "red"}).query_once("getenv('COLOUR', X)") == {"X": Atom("red")}


def test_the_adapter_serves_a_plain_pool(wasm: Path) -> None:
    with Pool.open(TreallaAdapter(wasm=wasm, program=COUNTER), replicas=1) as pool:
        assert pool.write(lambda guest: Interpreter(guest).execute("up(N)")) == {"N": 1}
        assert pool.read(lambda guest: Interpreter(guest).query_once("n(N)")) == {"N": 1}
        assert pool.name == "trealla"


def test_a_snapshot_s_facts_come_back_in_another_pool(wasm: Path) -> None:
    with PrologPool(wasm=wasm, replicas=1, program=COUNTER) as pool:
        pool.execute("up(_)")
        snapshot = pool.pool.snapshot()
        pool.execute("up(_)")

        with pool.pool.writing() as guest:
            guest._live().restore(snapshot)
            guest.local.clear()
            assert Interpreter(guest).query_once("n(N)") == {"N": 1}


def test_a_pool_says_what_it_is(open_pool: Open) -> None:
    pool = open_pool(replicas=2, name="facts")

    kind = repr(pool)[1:].split()[0]
    assert kind in ("PrologPool", "AsyncPrologPool")
    assert repr(pool).startswith(f"<{kind} 'facts' version=0 replicas=2 ")
    pool.resize(3)
    assert pool.replicas == 3
    assert pool.stats().name == "facts"
    pool.close()
    assert repr(pool) == f"<{kind} 'facts', closed>"


def test_an_atom_is_not_its_text(open_pool: Open) -> None:
    answer = open_pool(replicas=1).query_once('X = abc, Y = "abc"')

    assert answer == {"X": Atom("abc"), "Y": "abc"}
    assert answer["X"] != answer["Y"]


@pytest.mark.parametrize("workers", ["threads", "processes"])
def test_a_dead_interpreter_is_handed_on_to_nobody(wasm: Path, workers: Any) -> None:
    """Whoever catches the error stays with a guest that would answer "no" to everything."""
    with PrologPool(wasm=wasm, program=":- dynamic(p/1). p(1).", replicas=1, workers=workers) as pool:
        with pool.reading() as prolog:
            with pytest.raises(InterpreterError):
                prolog.query_once("halt")
            with pytest.raises(InterpreterError, match="has ended"):
                prolog.query_all("p(X)")
        assert pool.query_all("p(X)") == [{"X": 1}]
        with pool.reading() as prolog, pytest.raises(InterpreterError):
            list(prolog.query("member(X, [1, 2]), X > 1, halt", stream=True))
        assert pool.query_all("p(X)") == [{"X": 1}]
        with pytest.raises(NotReplicableError, match="the interpreter: it has ended"), pool.writing() as prolog:
            with pytest.raises(InterpreterError):
                prolog.query_once("assertz(p(2)), halt")
        pool.execute("assertz(p(3))")
        assert (pool.version, pool.query_all("p(X)")) == (1, [{"X": 1}, {"X": 3}])
