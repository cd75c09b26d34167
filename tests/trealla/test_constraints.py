"""Attributed variables: what constrains them is on the answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from replicate_trealla import Compound, Prolog, Term, Variable, variables_of

GOALS = [
    ("freeze(X, p(Y))", ["freeze(X,p(Y))"]),
    ("freeze(X, true), Y = X", ["freeze(X,true)"]),
    ("L = [A, B], freeze(A, true), freeze(B, fail)", ["freeze(A,true)", "freeze(B,fail)"]),
    ("dif(X, Y), dif(X, a)", ["dif(X,Y)", "dif(X,a)"]),
    ("X = f(A, B), dif(A, B)", ["dif(A,B)"]),
    ("X in 1..3", ["in(X,'..'(1,3))"]),
    ("X = 1", []),
    ("freeze(X, true), X = 1", []),
]


def without_modules(term: Term) -> Term:
    if not isinstance(term, Compound):
        return term
    if term.indicator == ":/2":
        return without_modules(term.args[1])
    return Compound(term.functor, tuple(map(without_modules, term.args)))


@pytest.fixture(scope="module")
def prolog(wasm: Path) -> Iterator[Prolog]:
    libraries = ("freeze", "dif", "clpz")
    with Prolog(wasm=wasm, program=" ".join(f":- use_module(library({name}))." for name in libraries)) as opened:
        yield opened


@pytest.mark.parametrize(("goal", "goals"), GOALS, ids=[goal for goal, _ in GOALS])
def test_what_constrains_a_variable_is_seen_on_the_answer(prolog: Prolog, goal: str, goals: list[str]) -> None:
    answer = prolog.query_once(goal)

    assert answer is not None
    assert sorted(str(without_modules(each)) for each in answer.residual) == sorted(goals)


def test_its_goals_are_about_the_answer_s_variables(prolog: Prolog) -> None:
    answer = prolog.query_once("L = f(X, _), dif(X, b)")

    assert answer is not None
    assert answer["X"] == Variable("X")
    assert {variable for goal in answer.residual for variable in variables_of(goal)} == {Variable("X")}


def test_they_constrain_again_where_they_are_called(prolog: Prolog) -> None:
    answer = prolog.query_once("dif(X, a), dif(X, b)")

    assert answer is not None
    for value, fits in (("a", False), ("b", False), ("c", True)):
        again = prolog.query_once(f"maplist(call, Goals), X = {value}", bindings={"Goals": list(answer.residual)})
        assert (again is not None) is fits
