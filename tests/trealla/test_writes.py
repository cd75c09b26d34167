"""Clauses and programs as transactions: terms, files, folders and modules; for pools, and for one interpreter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from replicate.errors import ArgumentTypeError, GuestTimeoutError
from replicate_trealla import (
    Atom,
    ConsultError,
    InterpreterError,
    Prolog,
    PrologError,
    PrologPool,
    PrologSyntaxError,
    TermError,
    Variable,
)

Open = Callable[..., PrologPool]
DYNAMIC = ":- dynamic(edge/2). fixed(1). loop :- loop."
edge = Atom("edge")
anything = Variable("_")


def edges(prolog: Any) -> list[tuple[Any, Any]]:
    """Give the edges that there are."""
    return [(answer["X"], answer["Y"]) for answer in prolog.query_all("edge(X, Y)")]


def test_clauses_are_added_and_removed_as_terms(open_pool: Open) -> None:
    pool = open_pool(replicas=2, program=DYNAMIC)

    pool.assertz(edge(1, "one"), edge(2, Atom("two")))
    pool.asserta(edge(3, 3.5), edge(4, []))
    assert edges(pool) == [(4, []), (3, 3.5), (1, "one"), (2, Atom("two"))]
    assert pool.retract(edge(1, anything), edge(9, anything), edge(4, [])) == 2
    pool.retractall(edge(3, anything))
    assert edges(pool) == [(2, Atom("two"))]
    assert pool.version == 4


def test_each_clause_has_variables_of_its_own(open_pool: Open) -> None:
    pool = open_pool(replicas=1, program=DYNAMIC)
    x, count = Variable("X"), Variable("ReplicateCount")

    pool.assertz(edge(x, 1), edge(count, 2), Atom(":-")(Atom("same")(x, x), Atom("true")))

    assert pool.query_once("edge(a, 1), edge(b, 2), same(c, c)") is not None
    assert pool.query_once("same(a, b)") is None


def test_clauses_are_changed_all_or_none(open_pool: Open) -> None:
    pool = open_pool(replicas=1, program=DYNAMIC)

    for change in (pool.assertz, pool.asserta, pool.retractall):
        with pytest.raises(PrologError, match="permission_error"):
            change(edge(1, 1), Atom("fixed")(2))
        with pytest.raises(TermError, match="argument 2"):
            change(edge(1, 1), 3)
    with pytest.raises(PrologError, match="permission_error"):
        pool.retract(Atom("fixed")(1))
    assert edges(pool) == []
    assert pool.version == 0


@pytest.mark.parametrize(("clause", "way"), [("edge(a, b)", "execute"), ([edge(1, 2)], r"\*clauses"), (7, "Compound")])
def test_what_is_no_clause_is_refused_with_a_way_out(single: Prolog, clause: Any, way: str) -> None:
    with pytest.raises(TermError, match=way):
        single.assertz(clause)


@pytest.mark.parametrize(
    "first", [lambda n: n, lambda n: Atom(f"n{n}"), lambda n: f"text {n}"], ids=["int", "atom", "str"]
)
def test_ten_thousand_facts_are_one_transaction(wasm: Path, first: Callable[[int], Any]) -> None:
    with PrologPool(wasm=wasm, replicas=1, program=DYNAMIC) as pool:
        pool.assertz(*(edge(first(n), n) for n in range(10_000)))
        assert pool.version == 1
        assert pool.query_once("findall(1, edge(_, _), _L), length(_L, N)") == {"N": 10_000}


@pytest.mark.parametrize("first", [lambda n: n, lambda n: Atom(f"n{n}"), lambda n: f"t{n}"], ids=["int", "atom", "str"])
def test_clauses_are_removed_where_the_interpreter_s_index_errs(single: Prolog, first: Callable[[int], Any]) -> None:
    single.consult_text(DYNAMIC)
    single.assertz(*(edge(first(n), n) for n in range(900)))

    assert single.retract(*(edge(first(n), anything) for n in range(300))) == 300
    single.retractall(*(edge(first(n), anything) for n in range(300, 600)))
    assert [y for _, y in edges(single)] == list(range(600, 900))


def test_a_folder_s_programs_are_loaded_in_order(open_pool: Open, tmp_path: Path) -> None:
    for name, text in {"b.pl": "p(2).", "a.pl": "p(1).", ".#c.pl": "p(", "notes.txt": "p("}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "deeper.pl").mkdir()
    pool = open_pool(replicas=1)

    pool.consult(tmp_path)

    assert [answer["X"] for answer in pool.query("p(X)")] == [1, 2]
    with pytest.raises(ConsultError, match="no \\*.pl file"):
        pool.consult(tmp_path / "deeper.pl")


def test_of_several_files_one_that_is_bad_undoes_all(open_pool: Open, tmp_path: Path) -> None:
    for number, text in enumerate(["p(1).", ":- initialization(assertz(q(1))).", "r(1).\nr(2.\n"]):
        (tmp_path / f"{number}.pl").write_text(text)
    pool = open_pool(replicas=1)

    with pytest.raises(PrologSyntaxError, match=r"2\.pl:2: ") as caught:
        pool.consult(tmp_path)
    assert caught.value.line == 2
    for name in ("p", "q", "r"):
        with pytest.raises(PrologError, match="existence_error"):
            pool.query_once(f"{name}(_)")


def test_an_initialization_goal_that_throws_undoes_what_it_did(open_pool: Open) -> None:
    pool = open_pool(replicas=1, program=DYNAMIC)

    with pytest.raises(ConsultError, match="threw oops"):
        pool.consult_text(":- initialization((assertz(edge(1, 1)), throw(oops))). more(1).")
    assert edges(pool) == []
    with pytest.raises(PrologError, match="existence_error"):
        pool.query_once("more(_)")


def test_a_program_is_loaded_into_a_module(open_pool: Open) -> None:
    pool = open_pool(replicas=1)

    pool.consult_text("where(one). there(X) :- where(X).", module="first")
    pool.consult_text("where(two). there(X) :- where(X).", module="second")

    assert pool.query_all("first:there(X)") == [{"X": Atom("one")}]
    assert pool.query_all("second:there(X)") == [{"X": Atom("two")}]
    with pytest.raises(PrologSyntaxError, match="x.pl:1"):
        pool.consult_text("where(\n", module="third", name="x.pl")
    with pytest.raises(ArgumentTypeError, match="lower case"):
        pool.consult_text("a.", module="No module")


def test_both_kinds_have_transactions(open_pool: Open, single: Prolog) -> None:
    for prolog in (open_pool(replicas=1, program=DYNAMIC), single):
        if prolog is single:
            single.consult_text(DYNAMIC)
        with prolog.transaction() as inside:
            inside.assertz(edge(1, 1))
        with pytest.raises(ZeroDivisionError), prolog.transaction() as inside:
            inside.assertz(edge(2, 2))
            inside.execute("retract(edge(1, 1))")
            raise ZeroDivisionError
        assert edges(prolog) == [(1, 1)]


def test_a_transaction_outlives_what_ends_the_interpreter(single: Prolog) -> None:
    single.consult_text(DYNAMIC)

    for goal, error in (("halt", InterpreterError), ("loop", GuestTimeoutError)):
        with pytest.raises(error), single.transaction():
            single.assertz(edge(2, 2))
            single.query_once(goal, timeout=0.2)
        assert edges(single) == []


def test_a_stream_cut_off_by_a_roll_back_says_so(single: Prolog) -> None:
    answers = single.query("member(X, [1, 2, 3])", stream=True)
    next(answers)
    with pytest.raises(ZeroDivisionError), single.transaction():
        raise ZeroDivisionError

    assert list(single.query("member(X, [7, 8])", stream=True)) == [{"X": 7}, {"X": 8}]
    with pytest.raises(InterpreterError, match="gone"):
        next(answers)


@pytest.mark.parametrize("stream", [False, True])
def test_a_lone_interpreter_s_queries_have_timeouts(single: Prolog, stream: bool) -> None:
    single.consult_text(DYNAMIC)

    assert single.query("member(X, [1, 2])", stream=stream, timeout=60).all() == [{"X": 1}, {"X": 2}]
    with pytest.raises(GuestTimeoutError):
        single.query("loop", stream=stream, timeout=0.2).all()


def test_a_path_may_stand_for_several(wasm: Path, tmp_path: Path) -> None:
    (tmp_path / "x.pl").write_text("x(1).", "utf-8")

    with Prolog(wasm=wasm, consult=str(tmp_path / "x.pl")) as prolog:
        assert prolog.query_all("x(X)") == [{"X": 1}]


@pytest.mark.parametrize(
    ("call", "way"),
    [
        (lambda prolog: prolog.query_all(3), "give Prolog text"),
        (lambda prolog: prolog.query_once(None), "give Prolog text"),
        (lambda prolog: prolog.query_once(b"true"), "decode"),
        (lambda prolog: prolog.query_once(edge(1, 2)), "str"),
        (lambda prolog: prolog.query_once(Path("x.pl")), "consult"),
        (lambda prolog: prolog.query_once("true", bindings=[("X", 1)]), "give a dict"),
        (lambda prolog: prolog.consult_text(Path("x.pl")), "use consult"),
        (lambda prolog: prolog.consult_text(b"a."), "decode"),
        (lambda prolog: prolog.consult_text(None), "text"),
        (lambda prolog: prolog.consult(3), "isn't a path"),
    ],
)
def test_wrong_kinds_of_arguments_say_what_to_do(shared: Prolog, call: Callable[[Any], Any], way: str) -> None:
    with pytest.raises(ArgumentTypeError, match=way):
        call(shared)
    assert shared.query_once("true") == {}
