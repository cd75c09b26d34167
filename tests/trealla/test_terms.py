"""Terms in Python, and to Prolog and back."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given, settings

from replicate.errors import ArgumentError, ReplicateError
from replicate_trealla import Atom, Compound, Opaque, Prolog, PrologSyntaxError, TermError, Variable, to_prolog
from replicate_trealla.testing import canonical, exact, terms

TERMS = terms(distinct=False)


@settings(deadline=None, max_examples=150)
@given(term=TERMS)
@example(term=Compound(".", ([], [])))
@example(term=Compound(".", (Atom("0"), "1")))
@example(term=[Atom("0")])
def test_a_term_comes_back_as_it_went(shared: Prolog, term: Any) -> None:
    answer = shared.query_once("Back = Given", bindings={"Given": term})

    assert answer is not None
    assert exact(answer["Back"]) == exact(canonical(term))


@settings(deadline=None, max_examples=100)
@given(term=TERMS)
def test_prolog_takes_what_comes_back_for_the_same_term(shared: Prolog, term: Any) -> None:
    answer = shared.query_once("Back = Given", bindings={"Given": term})

    assert answer is not None
    assert shared.query_once("A == B", bindings={"A": term, "B": answer["Back"]}) is not None


@pytest.mark.parametrize(
    "value",
    [
        2**63,
        -(2**63),
        10**5000,
        -(10**9999),
        5e-324,
        1.7976931348623157e308,
        -0.0,
        1e22,
        0.1 + 0.2,
        1 / 3,
        Fraction(10**30, -7),
    ],
    ids=lambda value: f"{value!r:.12}" if isinstance(value, float) else type(value).__name__,
)
def test_numbers_keep_every_bit(shared: Prolog, value: float | Fraction) -> None:
    answer = shared.query_once("Back = f(Given)", bindings={"Given": value})

    assert answer is not None
    assert exact(answer["Back"]) == exact(Compound("f", (value,)))


def test_a_float_stays_a_float(shared: Prolog) -> None:
    assert shared.query_once("float(X), Y is X", bindings={"X": 1.0}) == {"X": 1.0, "Y": 1.0}
    assert shared.query_once("integer(X)", bindings={"X": 1.0}) is None


def test_sums_and_quotients_arrive_exactly(shared: Prolog) -> None:
    answer = shared.query_once("X is 1 rdiv 3 + 1 rdiv 6, Y is 2^200, Z is 10 / 4")

    assert answer == {"X": Fraction(1, 2), "Y": 2**200, "Z": 2.5}


def test_what_is_one_term_to_prolog_is_one_value(shared: Prolog) -> None:
    answer = shared.query_once(
        'A = "ab", atom_chars(ab, B), C = [a, b], append([a], [b], D), E = "", F = [], A == C, E == F'
    )

    assert answer == {"A": "ab", "B": "ab", "C": "ab", "D": "ab", "E": [], "F": []}


def test_partial_lists_are_compound(shared: Prolog) -> None:
    assert shared.query_once("X = [1|b]") == {"X": Compound(".", (1, Atom("b")))}


def test_variables_have_the_query_s_names(shared: Prolog) -> None:
    answer = shared.query_once("X = f(Y, Z, Y, _), A = B")

    assert answer is not None
    x = answer["X"]
    assert isinstance(x, Compound)
    assert x.args[:3] == (Variable("Y"), Variable("Z"), Variable("Y"))
    assert isinstance(x.args[3], Variable)
    assert x.args[3].name.startswith("_")
    assert answer["A"] == answer["B"] == Variable("A")


def test_streams_and_the_like_arrive_but_cannot_go_back(shared: Prolog) -> None:
    answer = shared.query_once("current_output(S), X = f(S, 1)")

    assert answer is not None
    stream = answer["S"]
    assert isinstance(stream, Opaque)
    assert answer["X"] == Compound("f", (stream, 1))
    with pytest.raises(TermError, match="lives in the interpreter only"):
        to_prolog(stream)


def test_literals_of_json_are_ordinary_atoms(shared: Prolog) -> None:
    answer = shared.query_once("X = [true, false, null], Y = true(null), Z = true")

    atoms = [Atom("true"), Atom("false"), Atom("null")]
    assert answer == {"X": atoms, "Y": Compound("true", (Atom("null"),)), "Z": Atom("true")}


def test_python_s_truth_values_are_atoms(shared: Prolog) -> None:
    assert shared.query_once("X == true, Y == false", bindings={"X": True, "Y": False}) is not None


def test_terms_nested_thousands_deep_arrive(wasm: Any) -> None:
    program = "nest(0, z) :- !. nest(N, s(T)) :- M is N - 1, nest(M, T)."
    with Prolog(wasm=wasm, program=program) as prolog:
        answer = prolog.query_once("nest(8000, X)")

    assert answer is not None
    term, depth = answer["X"], 0
    while isinstance(term, Compound):
        term, depth = term.args[0], depth + 1
    assert (term, depth) == (Atom("z"), 8000)


@pytest.mark.parametrize("goal", ["X = f(X)", "X = [a|X]", "X = [X]", "X = f(Y, X), Y = g(X)"])
def test_cyclic_terms_are_refused(single: Prolog, goal: str) -> None:
    with pytest.raises(ReplicateError, match=r"representation_error\(term_depth\)"):
        single.query_once(goal)

    assert single.query_once("X = 1") == {"X": 1}


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, object(), [1, [{1}]], "\ud800"])
def test_what_has_no_term_is_refused(value: Any) -> None:
    with pytest.raises(TermError) as caught:
        to_prolog(value)

    assert isinstance(caught.value, ArgumentError)


def test_a_zero_byte_in_a_compound_s_name_is_refused() -> None:
    with pytest.raises(TermError, match="zero byte"):
        to_prolog(Compound("a\0b", (1,)))


@pytest.mark.parametrize("name", ["x", "1X", "", "X Y", "X), halt, (Y", "É", "X\n"])
def test_only_variables_are_bound(shared: Prolog, name: str) -> None:
    with pytest.raises(TermError, match="isn't a variable's name"):
        shared.query_once("true", bindings={name: 1})
    with pytest.raises(TermError, match="isn't a variable's name"):
        to_prolog(Variable(name))


def test_no_text_breaks_out_of_its_term(shared: Prolog) -> None:
    for text in ["'), throw(out), ('", '"), throw(out), ("', "\\", "a\nb", "*/ throw(out) /*", "0'a", "."]:
        answer = shared.query_once("X = Atom, Y = Text", bindings={"Atom": Atom(text), "Text": [text]})
        assert answer is not None
        assert (answer["X"], answer["Y"]) == (Atom(text), [text])


def test_atoms_make_compound_terms() -> None:
    point = Atom("point")

    assert point(1, 2) == Compound("point", (1, 2))
    assert (point.indicator, point(1, 2).indicator) == ("point/0", "point/2")
    with pytest.raises(TermError, match="at least one argument"):
        point()


@pytest.mark.parametrize(
    ("term", "text"),
    [
        (Atom("foo"), "foo"),
        (Atom("Foo bar"), "'Foo bar'"),
        (Atom("don't"), "'don\\'t'"),
        (Atom("\n"), "'\\xa\\'"),
        (Compound("+", (1, -2)), "'+'(1,-2)"),
        (Compound("f", (Compound(",", (1, 2)),)), "f(','(1,2))"),
        ([1, [2.5, "x"], Variable("X")], '[1,[2.5,"x"],X]'),
        (1e100, "1.0e+100"),
        (Fraction(1, 3), "(1 rdiv 3)"),
    ],
)
def test_terms_are_written_canonically(term: Any, text: str) -> None:
    assert to_prolog(term) == text


def test_a_term_s_repr_makes_it_again() -> None:
    term = Compound("f", (Atom("a"), Variable("X"), [1, "b"]))

    assert eval(repr(term)) == term


def test_text_that_is_no_goal_is_refused_before_the_guest_is_asked(shared: Prolog) -> None:
    with pytest.raises(PrologSyntaxError, match="Unicode"):
        shared.query_once("X = '\ud800'")


def test_deep_terms_are_compared_hashed_and_shown() -> None:
    def deep(inner: Any) -> Compound:
        for _ in range(20_000):
            inner = Compound("s", (inner,))
        return inner  # type: ignore[no-any-return]

    one, other, third, listed = deep(Atom("a")), deep(Atom("a")), deep(Atom("b")), deep([Atom("a"), [1]])

    assert one == other
    assert hash(one) == hash(other)
    assert one != third
    assert listed == deep([Atom("a"), [1]]) != deep([Atom("a"), [2]])
    assert listed != deep([Atom("a")])
    assert repr(one).startswith("Compound('s'")
    assert str(one).startswith("s(s(s(")


def test_terms_with_lists_are_hashed_and_found_in_sets() -> None:
    term = Compound("f", ([1, [Atom("a")]], Compound("g", (2.5,))))

    assert {term, Compound("f", ([1, [Atom("a")]], Compound("g", (2.5,))))} == {term}
    assert len({Compound("f", (number, Compound("g", (number,)))) for number in range(100)}) == 100
    assert term != Compound("f", ([1, [Atom("b")]], Compound("g", (2.5,))))
    assert term != ("f", ([1, [Atom("a")]], Compound("g", (2.5,))))
