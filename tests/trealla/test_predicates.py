"""Predicates that are Python functions: what they get, what they may return and raise, and where they are."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from counted import Counted, check_that_streams_are_closed_with_their_transaction

from replicate.errors import (
    ArgumentError,
    ArgumentRangeError,
    ArgumentTypeError,
    GuestTimeoutError,
    NestedTransactionError,
    PoolError,
)
from replicate_trealla import (
    AsyncPrologPool,
    Atom,
    Compound,
    ConsultError,
    Goal,
    MutationError,
    Prolog,
    PrologError,
    PrologPool,
    Variable,
)

Open = Callable[..., Any]


@pytest.fixture
def prolog(wasm: Path) -> Iterator[Prolog]:
    """Open an interpreter without a pool."""
    with Prolog(wasm=wasm) as opened:
        yield opened


# -- what goes in and out ----------------------------------------------------------------------------------------------


def test_arguments_arrive_as_terms(prolog: Prolog) -> None:
    seen: list[Any] = []
    prolog.register("look/1", seen.append)
    goal = "look([]), look(a), look(12), look(1.5), look(\"text\"), look([1, b]), look(f(X, g(X), Y)), Z is 1 rdiv 3, look(Z), look('')"
    assert prolog.query_once(goal) is not None
    assert seen[:6] == [[], Atom("a"), 12, 1.5, "text", [1, Atom("b")]]
    assert seen[6].args[0] == seen[6].args[1].args[0] != seen[6].args[2]
    assert isinstance(seen[6].args[0], Variable)
    assert seen[7:] == [Fraction(1, 3), Atom("")]
    assert prolog.query_once("look(A)") == {"A": Variable("A")}


VALUES: list[Any] = [
    0,
    -17,
    2**70,
    -(10**3000),
    1.5,
    -0.25,
    Fraction(-2, 3),
    "",
    "text",
    "é\n'\"\\ 🦜",
    "x" * 70_000,
    Atom(""),
    Atom("a"),
    Atom("It's"),
    [],
    [1, [2, Atom("b")], "c"],
    Compound("f", (1, Compound("g", ("x",)))),
    Compound("-", (Fraction(1, 7), 2)),
    list(range(30_000)),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:30])
def test_a_value_is_unified_with_the_last_argument(prolog: Prolog, value: Any) -> None:
    prolog.register("give/2", lambda x, y: value)
    answer = prolog.query_once("give(1, X), give(1, X)")
    expected: Any = [] if value == "" else value
    assert answer == {"X": expected}
    assert prolog.query_once("give(1, other)") is None
    prolog.register("same/3", lambda x, y, z: {"x": value, "z": value})
    assert prolog.query_once("same(X, 5, X)") == {"X": expected}


@pytest.mark.parametrize(
    ("result", "goal", "expected"),
    [
        (None, "p(X, Y)", {"X": Variable("X"), "Y": Variable("Y")}),
        (True, "p(X, 2)", {"X": Variable("X")}),
        (False, "p(X, Y)", None),
        ((1, 2), "p(X, Y)", {"X": 1, "Y": 2}),
        ((1, ...), "p(X, Y)", {"X": 1, "Y": Variable("Y")}),
        ((1, 2), "p(X, X)", None),
        ({"first": 1}, "p(X, Y)", {"X": 1, "Y": Variable("Y")}),
        ({"first": Atom("a"), "second": "b"}, "p(X, Y)", {"X": Atom("a"), "Y": "b"}),
        ({}, "p(X, 3)", {"X": Variable("X")}),
        (5, "p(4, 5)", {}),
        (5, "p(4, 6)", None),
    ],
)
def test_what_may_be_returned(prolog: Prolog, result: Any, goal: str, expected: Any) -> None:
    @prolog.predicate()
    def p(first: Any, second: Any) -> Any:
        return result

    assert prolog.query_once(goal) == expected
    assert prolog.query_all(f"{goal}, true") == ([] if expected is None else [expected]), "and leaves no choice"


def test_variables_that_come_back_are_the_same_ones(prolog: Prolog) -> None:
    prolog.register("wrap/2", lambda x, y: Compound("w", (x, x, Variable("_New"))))
    prolog.register("by_variable/2", lambda x, y: {y: [x]})
    prolog.register("alike/2", lambda x, y: Goal(Compound("=", (x, y))))

    assert prolog.query_once("wrap(X, w(1, Y, Z)), Z = 3") == {"X": 1, "Y": 1, "Z": 3}
    assert prolog.query_once("by_variable(f(A), B), A = 2") == {"A": 2, "B": [Compound("f", (2,))]}
    assert prolog.query_once("alike(f(A, b), f(c, B))") == {"A": Atom("c"), "B": Atom("b")}


def test_a_goal_is_called_in_the_predicate_s_stead(prolog: Prolog) -> None:
    prolog.consult_text("fact(1). fact(2).")
    prolog.register("any/1", lambda x: Goal(Compound("fact", (x,))))
    prolog.register("thrown/0", lambda: Goal(Compound("throw", (Atom("ball"),))))
    assert prolog.query_all("any(X)") == [{"X": 1}, {"X": 2}]
    assert prolog.query_all("any(X), !") == [{"X": 1}]
    assert prolog.query_once("catch(thrown, B, true)") == {"B": Atom("ball")}


# -- one choice point per element --------------------------------------------------------------------------------------


def test_each_element_is_a_solution_computed_when_it_is_asked_for(prolog: Prolog) -> None:
    counted = Counted()
    prolog.register("upto/2", counted.upto)

    assert prolog.query_all("upto(3, X)") == [{"X": 0}, {"X": 1}, {"X": 2}]
    assert (counted.given, counted.closed) == ([0, 1, 2], 1)
    assert prolog.query_all("upto(0, X)") == []
    assert prolog.query_all("upto(2, X), upto(2, Y)") == [{"X": x, "Y": y} for x in (0, 1) for y in (0, 1)]
    assert counted.closed == 5
    assert prolog.query_all("upto(5, 3)") == [{}]


@pytest.mark.parametrize(
    "goal", ["once(upto(9, X))", "upto(9, X), !", "upto(9, X), X >= 0", "catch((upto(9, X), throw(b)), b, X = 0)"]
)
def test_a_cut_closes_the_generator(prolog: Prolog, goal: str) -> None:
    counted = Counted()
    prolog.register("upto/2", counted.upto)

    assert prolog.query_once(goal) == {"X": 0}
    assert (counted.given, counted.closed) == ([0], 1)


def test_a_closed_stream_closes_the_generator(open_pool: Open) -> None:
    counted = Counted()
    pool = open_pool(replicas=1, predicates={"upto/2": counted.upto})

    stream = pool.query("upto(9, X)", stream=True)
    assert [next(stream)["X"] for _ in range(3)] == [0, 1, 2]
    assert (counted.given, counted.closed) == ([0, 1, 2], 0)
    stream.close()
    assert counted.closed == 1
    with pool.reading() as reader:
        stream = reader.query("upto(9, X)", stream=True)
        next(stream)
        assert reader.query_once("upto(9, X)") == {"X": 0}
        assert next(stream) == {"X": 1}
        stream.close()
    assert counted.closed == 3


def test_elements_are_whatever_may_be_returned(prolog: Prolog) -> None:
    @prolog.predicate("p/2")
    def p(x: Any, y: Any) -> Iterator[Any]:
        yield False
        yield (1, Atom("a"))
        yield {"x": 2}
        yield None
        yield "s"
        yield Goal(Compound("member", (y, [7, 8])))

    answers = [(answer["X"], answer["Y"]) for answer in prolog.query("p(X, Y)")]
    assert answers == [
        (1, Atom("a")),
        (2, Variable("Y")),
        (Variable("X"), Variable("Y")),
        (Variable("X"), "s"),
        (Variable("X"), 7),
        (Variable("X"), 8),
    ]


# -- exceptions --------------------------------------------------------------------------------------------------------


class Mine(Exception):
    """Be an exception of the test's."""


def test_an_exception_that_nothing_catches_comes_back_itself(open_pool: Open) -> None:
    error = Mine("no", 3)

    def fail(x: Any) -> Any:
        raise error

    def late(x: Any) -> Iterator[Any]:
        yield 1
        raise error

    pool = open_pool(replicas=1, predicates={"bad/1": fail, "late/1": late})
    for ask in (pool.query_once, pool.query_all, pool.execute, lambda goal: pool.query(goal, stream=True).all()):
        for goal in ("bad(1)", "catch(bad(1), E, throw(E))", "catch(bad(1), other, true)", "findall(X, late(X), L)"):
            with pytest.raises(Mine) as caught:
                ask(goal)
            assert caught.value is error
    answers = pool.query("late(X)")
    assert next(answers) == {"X": 1}
    with pytest.raises(Mine):
        next(answers)
    assert pool.version == 0
    with pytest.raises(Mine), pool.writing() as writer:
        writer.execute("bad(1)")


def test_an_exception_can_be_caught_by_the_program(prolog: Prolog) -> None:
    def fail(x: Any) -> Any:
        raise KeyError("missing")

    prolog.register("bad/1", fail)
    answer = prolog.query_once("catch(bad(1), error(python_error(Type, Text), _), true)")
    assert answer is not None
    assert (answer["Type"], answer["Text"]) == (Atom("KeyError"), "'missing'")
    with pytest.raises(PrologError) as caught:
        prolog.query_once("catch(bad(1), E, throw(wrapped(E)))")
    assert isinstance(caught.value.__cause__, KeyError)
    assert prolog.query_once("true") == {}


def test_a_prolog_error_throws_its_ball(prolog: Prolog) -> None:
    ball = Compound("error", (Compound("type_error", (Atom("integer"), Atom("a"))), Variable("_")))

    def fail(x: Any) -> Any:
        raise PrologError("not an integer", ball=ball)

    prolog.register("bad/1", fail)
    assert prolog.query_once("catch(bad(1), error(type_error(T, V), _), true)") == {
        "T": Atom("integer"),
        "V": Atom("a"),
    }
    with pytest.raises(PrologError, match="type_error") as caught:
        prolog.query_once("bad(1)")
    assert isinstance(caught.value.ball, Compound)


@pytest.mark.parametrize(
    "result", [object(), {1, 2}, float("nan"), {"nobody": 1}, {Variable("_Other"): 1}, (1,), (1, 2, 3)]
)
def test_what_cannot_be_returned_is_an_exception(prolog: Prolog, result: Any) -> None:
    prolog.register("p/2", lambda x, y: result)
    with pytest.raises(ArgumentError):
        prolog.query_once("p(X, Y)")
    assert prolog.query_once("catch(p(_, _), error(python_error(T, _), _), true)") == {"T": Atom("TermError")}


def test_what_is_no_error_ends_the_goal(open_pool: Open) -> None:
    def stop(x: Any) -> Any:
        raise KeyboardInterrupt

    with PrologPool(replicas=1, predicates={"stop/1": stop}) as pool:
        with pytest.raises(KeyboardInterrupt):
            pool.query_once("catch(stop(1), _, true)")
        assert pool.query_once("X = 1") == {"X": 1}


def test_a_deadline_is_looked_at_when_a_function_returns(open_pool: Open) -> None:
    counted = Counted()
    pool = open_pool(
        replicas=1, predicates={"tarry/0": lambda: not threading.Event().wait(0.3), "upto/2": counted.upto}
    )
    with pytest.raises(GuestTimeoutError):
        pool.query_once("upto(9, _), tarry, repeat, fail", timeout=0.1)
    assert counted.closed == 1
    assert pool.query_once("X = 1") == {"X": 1}


# -- where they are ----------------------------------------------------------------------------------------------------


def test_they_are_in_every_replica_and_every_branch(open_pool: Open) -> None:
    pool = open_pool(replicas=1, program="four(X) :- double(2, X).", predicates={"double/2": lambda x, y: 2 * x})
    pool.register("half/2", lambda x, y: x // 2)

    pool.resize(3)
    start = threading.Barrier(3)
    got: list[Any] = []

    def wait() -> None:
        start.wait(60)

    pool.register("together/0", wait)
    threads = [
        threading.Thread(target=lambda: got.append(pool.query_once("four(X), together, half(X, Y)"))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [{"X": 4, "Y": 2}] * 3
    with pool.branch() as branch:
        branch.register("third/2", lambda x, y: x // 3)
        assert branch.query_once("double(3, X), half(X, Y), third(X, Z)") == {"X": 6, "Y": 3, "Z": 2}
        pool.close()
        assert branch.query_once("four(X)") == {"X": 4}


def test_one_of_a_write_is_there_when_it_has_committed(wasm: Path) -> None:
    with PrologPool(wasm=wasm, replicas=2) as pool:
        with pytest.raises(Mine), pool.writing() as writer:
            writer.register("one/1", lambda x: 1)
            assert writer.query_once("one(X)") == {"X": 1}
            raise Mine
        with pytest.raises(PrologError, match="one/1"):
            pool.query_once("one(X)")
        with pool.writing() as writer:

            @writer.predicate()
            def one(x: Any) -> int:
                return 1

        assert [pool.query_once("one(X)") for _ in range(3)] == [{"X": 1}] * 3
        with (
            pytest.raises(MutationError),
            PrologPool(wasm=wasm, on_mutation="raise") as strict,
            strict.reading() as reader,
        ):
            reader.register("one/1", lambda x: 1)


@pytest.mark.parametrize(
    "indicator", ["append/3", "atom_length/2", "is/2", "mine/1", "later/1", ",/2", "=/2", "call/1"]
)
def test_a_name_that_is_taken_is_refused(wasm: Path, indicator: str) -> None:
    program = ":- dynamic(later/1). mine(1). later(1)."
    with PrologPool(wasm=wasm, replicas=1, program=program) as pool:
        with pytest.raises(PrologError, match="already") as caught:
            pool.register(indicator, lambda *_: True)
        assert isinstance(caught.value.ball, Compound)
        assert pool.version == 0
        pool.register("'odd name'/1".replace("'", ""), lambda x: 5)
        assert pool.query_once("'odd name'(X)") == {"X": 5}
        with pytest.raises(PrologError, match="already"):
            pool.register("odd name/1", lambda x: 6)


async def awaited(x: Any) -> None:
    """Be no predicate."""


@pytest.mark.parametrize(
    ("indicator", "function", "error"),
    [
        ("p", lambda x: 1, ArgumentRangeError),
        ("p/x", lambda x: 1, ArgumentRangeError),
        ("/1", lambda x: 1, ArgumentRangeError),
        ("p/65", lambda *x: 1, ArgumentRangeError),
        (7, lambda x: 1, ArgumentRangeError),
        ("p/2", lambda x: 1, ArgumentTypeError),
        ("p/1", "p", ArgumentTypeError),
        ("p/1", awaited, ArgumentTypeError),
        (None, lambda x: 1, ArgumentTypeError),
        (None, max, ArgumentTypeError),
    ],
)
def test_what_cannot_be_a_predicate_is_refused(prolog: Prolog, indicator: Any, function: Any, error: Any) -> None:
    with pytest.raises(error):
        prolog.register(indicator, function)
    assert prolog.query_once("X = 1") == {"X": 1}


def test_names_and_arities_come_from_functions(prolog: Prolog) -> None:
    @prolog.predicate()
    def square(x: int, y: Any) -> int:
        return x * x

    @prolog.predicate("nothing/0")
    def something() -> None: ...

    assert prolog.query_once("square(5, X), nothing") == {"X": 25}
    assert square(3, None) == 9


def test_a_decorator_must_be_called(wasm: Path) -> None:
    with PrologPool(wasm=wasm, replicas=1) as pool, Prolog(wasm=wasm) as prolog:
        for decorate in (pool.predicate, prolog.predicate):
            with pytest.raises(ArgumentTypeError, match="call the decorator"):
                decorate(lambda x: 1)  # type: ignore[arg-type]


def test_an_async_pool_s_decorator_is_for_before_it_is_open(wasm: Path) -> None:
    async def main() -> None:
        pool = AsyncPrologPool(wasm=wasm, replicas=1, program="four(X) :- double(2, X).")

        @pool.predicate("double/2")
        def double(x: Any, y: Any) -> int:
            return 2 * x

        async with pool:
            assert await pool.query_once("four(X)") == {"X": 4}
            with pytest.raises(PoolError, match="register"):
                pool.predicate("late/1")
            await pool.register("late/1", lambda x: 1)
            assert await pool.query_once("late(X)") == {"X": 1}

    asyncio.run(main())


def test_the_pool_that_calls_cannot_be_asked(open_pool: Open) -> None:
    pool = open_pool(replicas=2)
    pool.register("nested/0", lambda: pool.query_once("true") is not None)
    pool.register("wrote/0", lambda: pool.execute("true") is not None)
    if isinstance(pool, PrologPool):
        for goal in ("nested", "wrote"):
            with pytest.raises(NestedTransactionError):
                pool.query_once(goal)
            with pytest.raises(NestedTransactionError):
                pool.query(goal, stream=True).first()
            with pytest.raises(NestedTransactionError):
                pool.execute(goal)
        assert pool.query_once("catch(nested, error(python_error(T, _), _), true)") == {
            "T": Atom("NestedTransactionError")
        }


def test_the_interpreter_that_calls_cannot_be_asked(prolog: Prolog) -> None:
    prolog.register("nested/1", lambda x: prolog.query_once("X = 1"))
    with pytest.raises(NestedTransactionError, match="Goal"):
        prolog.query_once("member(X, [1, 2]), nested(X)")
    assert prolog.query_all("member(X, [1, 2])") == [{"X": 1}, {"X": 2}]


def test_another_pool_can_be_asked_and_output_stays_apart(wasm: Path) -> None:
    with PrologPool(wasm=wasm, replicas=1) as inner, PrologPool(wasm=wasm, replicas=1) as outer:
        outer.register("ask/1", lambda x: inner.query_once("write(inner), X = 7")["X"])  # type: ignore[index]
        answer = outer.query_once("write(before), ask(X), write(after)")
        assert answer == {"X": 7}
        assert answer.stdout == "beforeafter"


def test_many_threads_call_at_once(open_pool: Open) -> None:
    pool = open_pool(replicas=3, predicates={"double/2": lambda x, y: 2 * x})
    wrong: list[Any] = []

    def work(me: int) -> None:
        for number in range(20):
            answers = pool.query_all("between(1, 20, X), Z is X * N, double(Z, Y)", bindings={"N": me * 100 + number})
            if [answer["Y"] for answer in answers] != [2 * x * (me * 100 + number) for x in range(1, 21)]:
                wrong.append((me, number))

    threads = [threading.Thread(target=work, args=(me,)) for me in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_cancelled_task_closes_the_generator(wasm: Path) -> None:
    counted = Counted()

    async def main() -> None:
        async with AsyncPrologPool(wasm=wasm, replicas=1, predicates={"upto/2": counted.upto}) as pool:
            stream = pool.query("upto(9, X), X > 0, repeat, fail", stream=True)
            task = asyncio.ensure_future(stream.__anext__())
            while not counted.given:
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            while not counted.closed:
                await asyncio.sleep(0.001)
            assert await pool.query_once("upto(1, X)") == {"X": 0}

    asyncio.run(main())


def test_one_that_closes_the_stream_that_calls_it_spoils_nothing(open_pool: Open, kind: Any) -> None:
    act: list[Any] = [lambda: True]
    pool = open_pool(replicas=2, predicates={"do/0": lambda: act[0]()}, program=":- dynamic(f/1).")
    with pool.writing() as prolog:
        stream = prolog.query("member(X, [1, 2, 3]), do", stream=True)
        assert next(stream) == {"X": 1}
        act[0] = stream.close
        if kind is PrologPool:
            next(stream)  # it's closed when the goal has ended
        else:
            with pytest.raises(NestedTransactionError):
                next(stream)
        assert list(stream) == []
        act[0] = lambda: True
        assert prolog.query_once("X = foo") == {"X": Atom("foo")}
    assert pool.query_once("X = foo") == {"X": Atom("foo")}
    assert pool.execute("assertz(f(1))") == {}
    assert pool.query_all("f(X)") == [{"X": 1}]


@pytest.mark.parametrize("kind_of_end", [StopIteration, StopAsyncIteration])
def test_the_end_of_something_else_is_not_the_end_of_the_answers(open_pool: Open, kind_of_end: Any) -> None:
    def end(x: object) -> None:
        raise kind_of_end

    pool = open_pool(predicates={"end/1": end})
    goal = "member(X, [1, 2, 3]), (X =:= 2 -> end(a) ; true)"
    asks: list[Callable[[], object]] = [
        lambda: pool.query_all(goal),
        lambda: pool.execute("end(a)"),
        lambda: list(pool.query(goal, stream=True)),
    ]
    for ask in asks:
        with pytest.raises(RuntimeError, match=kind_of_end.__name__) as caught:
            ask()
        assert isinstance(caught.value.__cause__, kind_of_end)


def test_an_exception_that_a_program_has_kept_is_not_taken_for_another(open_pool: Open) -> None:
    def boom(text: str) -> None:
        raise ValueError(text)

    pool = open_pool(predicates={"boom/1": boom}, program=":- dynamic(saved/1).")
    pool.execute("catch(boom(first), E, assertz(saved(E)))")
    with pytest.raises(PrologError, match="first"):
        pool.query_once("catch(boom(second), _, true), saved(E), throw(E)")


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise LookupError


@pytest.mark.parametrize("error", [ValueError("\ud800 a\0b"), UnspeakableError()])
def test_an_exception_whose_text_cannot_be_written_is_thrown_too(open_pool: Open, error: Exception) -> None:
    def boom() -> None:
        raise error

    pool = open_pool(predicates={"boom/0": boom})
    assert pool.query_once("catch(boom, error(python_error(Kind, _), _), true)") == {"Kind": Atom(type(error).__name__)}
    with pytest.raises(type(error)) as caught:
        pool.query_once("boom")
    assert caught.value is error


def test_a_call_in_the_middle_of_a_line_of_output_does_not_end_it(open_pool: Open) -> None:
    lines: list[str] = []
    pool = open_pool(stdout=lines.append, predicates={"double/2": lambda x, y: 2 * x})
    pool.query_once("write(hello), flush_output, double(2, _), write(world), nl")
    assert lines == ["helloworld"]


@pytest.mark.parametrize(
    ("text", "line"),
    [("a(1).\ndouble(1, 100).", 2), ("% double/2\n\ndouble(X, Y) :- Y is 3 * X.\n", 3), ("double(_, _).", 1)],
)
def test_a_program_with_clauses_for_one_is_refused(open_pool: Open, text: str, line: int) -> None:
    double = {"double/2": lambda x, y: 2 * x}
    pool = open_pool(replicas=1, predicates=double)
    with pytest.raises(ConsultError, match=f"^user:{line}: double/2 is a Python function"):
        pool.consult_text(text)
    with pytest.raises(ConsultError, match="double/2 is a Python function"):
        open_pool(replicas=1, predicates=double, program=text)
    pool.consult_text("double(1). doubled(X) :- double(X, _). other(double(1, 2)).")
    assert pool.query_once("double(4, X), double(1)") == {"X": 8}


def test_what_streams_have_left_open_is_closed_with_their_transaction(open_pool: Open) -> None:
    check_that_streams_are_closed_with_their_transaction(open_pool)
