"""Python values as terms."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import http
import math
import random
import re
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import pytest

from replicate_trealla import (
    Atom,
    Compound,
    Opaque,
    Prolog,
    TermError,
    Variable,
    functor,
    substitute,
    to_prolog,
    to_term,
    variables_of,
)


@dataclasses.dataclass(frozen=True)
class Point:
    x: Any
    y: Any


@attrs.frozen
class HTTPRequest:
    path: str
    _secret: str = "none"
    parsed: bool = attrs.field(default=False, init=False)


class Pair(NamedTuple):
    first: Any
    second: Any = 2


@functor("edge", "target", "source")
@dataclasses.dataclass
class Connection:
    source: str
    target: str
    weight: float = 1.0


@dataclasses.dataclass
class Declared:
    __prolog__ = ("Odd name",)
    a: int


@dataclasses.dataclass
class Nothing:
    pass


@dataclasses.dataclass
class SubConnection(Connection):
    pass


class Color(enum.Enum):
    RED = "dark red"
    BLUE = 2


class Access(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


UTC = datetime.timezone.utc
VALUES: list[tuple[Any, Any]] = [
    (None, Atom("none")),
    (True, Atom("true")),
    ([False], [Atom("false")]),
    (Point(1, [Point("a", None)]), Compound("point", (1, [Compound("point", ("a", Atom("none")))]))),
    (HTTPRequest("/", "s"), Compound("http_request", ("/", "s"))),
    (Pair(1), Compound("pair", (1, 2))),
    (Connection("a", "b"), Compound("edge", ("b", "a"))),
    (Declared(1), Compound("Odd name", (1,))),
    (SubConnection("a", "b"), Compound("sub_connection", ("a", "b", 1.0))),
    (Nothing(), Atom("nothing")),
    (Color.RED, Atom("dark red")),
    (Color.BLUE, Atom("BLUE")),
    (http.HTTPStatus.NOT_FOUND, Atom("NOT_FOUND")),
    (re.IGNORECASE, Atom("IGNORECASE")),
    ((1, ("a",)), [1, ["a"]]),
    ((), []),
    ({"a": 1, 2: {"b": ()}}, [Compound("-", (Atom("a"), 1)), Compound("-", (2, [Compound("-", (Atom("b"), []))]))]),
    ({}, []),
    ({Color.RED: 1}, [Compound("-", (Atom("dark red"), 1))]),
    (Decimal("1.10"), Fraction(11, 10)),
    (Decimal("3E+2"), 300),
    (datetime.date(2024, 2, 29), "2024-02-29"),
    (datetime.time(1, 2, 3, 4), "01:02:03.000004"),
    (datetime.datetime(2024, 2, 29, 1, tzinfo=UTC), "2024-02-29T01:00:00+00:00"),
    (b"\0a\xff", [0, 97, 255]),
    (b"", []),
]


@pytest.mark.parametrize(("value", "term"), VALUES, ids=[repr(value)[:40] for value, _ in VALUES])
def test_values_have_terms(shared: Prolog, value: Any, term: Any) -> None:
    assert to_term(value) == term
    answer = shared.query_once("Back = Given", bindings={"Given": value})
    assert answer == {"Given": term, "Back": term}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (object(), "object has no Prolog term"),
        ({1, 2}, "sort it into a list"),
        (Point, "give an instance of Point"),
        (1j, "complex has no Prolog term"),
        (Path("a"), "Path has no Prolog term"),
        (datetime.timedelta(1), "timedelta has no"),
        (Access.READ | Access.WRITE, "combination of flags"),
        (Decimal("NaN"), "isn't finite"),
        (Decimal("1E+999999"), "exponent"),
        (Decimal("-Infinity"), "isn't finite"),
        ([1, {"a": [Point(object(), 1)]}], "object has no Prolog term"),
        (lambda: 1, "function has no Prolog term"),
        (Exception("x"), "Exception has no Prolog term"),
    ],
)
def test_what_has_no_term_is_refused(shared: Prolog, value: Any, message: str) -> None:
    for attempt in (to_term, to_prolog, lambda each: shared.query_once("X = 1", bindings={"X": each})):
        with pytest.raises(TermError, match=message):
            attempt(value)


def test_what_contains_itself_is_refused() -> None:
    values: list[Any] = [1]
    values.append({"again": (values,)})

    for attempt in (to_term, to_prolog):
        with pytest.raises(TermError, match="contains itself"):
            attempt(values)


def test_what_is_there_twice_is_no_cycle() -> None:
    point, empty = Point(1, 2), []  # type: ignore[var-annotated]

    assert to_term([point, point, [point], empty, empty]) == [to_term(point)] * 2 + [[to_term(point)], [], []]
    assert to_prolog([point, point, empty, [empty]]) == "[point(1,2),point(1,2),[],[[]]]"


def test_values_nested_deep_have_terms() -> None:
    value: Any = 1
    for _ in range(20_000):
        value = Point((value,), None)

    assert to_prolog(to_term(value)) == to_prolog(value)


class Loud(str):
    def __str__(self) -> str:
        return "halt"

    def __format__(self, spec: str) -> str:
        return "halt"

    __repr__ = __str__


class LoudInt(int):
    def __str__(self) -> str:
        return "halt"

    def __format__(self, spec: str) -> str:
        return "halt"

    __repr__ = __str__


class LoudFloat(float):
    def __str__(self) -> str:
        return "halt"

    def __repr__(self) -> str:
        return "halt"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Loud("a"), '"a"'),
        (LoudInt(3), "3"),
        ([LoudFloat(-0.0)], "[-0.0]"),
        (Atom(Loud("a b")), "'a b'"),
        (Compound(Loud("f"), (1,)), "f(1)"),
        ({Loud("k"): LoudInt(1)}, "['-'(k,1)]"),
        (http.HTTPStatus.OK, "'OK'"),
    ],
)
def test_subclasses_cannot_say_otherwise(value: Any, text: str) -> None:
    assert to_prolog(value) == text


ATTACKS = [
    "'), throw(out), ('",
    '"), throw(out), ("',
    "\\",
    "\\'",
    "a\nb",
    "*/ throw(out) /*",
    "0'",
    "a\0), throw(out), (b",
    "X). throw(out). (Y",
    "\r\n:- throw(out).\n",
    "_Rational0",
    "'$replicate'(stream)",
    "\u2028throw(out)",
]


@pytest.mark.parametrize("text", ATTACKS)
def test_no_value_breaks_out_of_its_term(shared: Prolog, text: str) -> None:
    value = Point({text: [Atom(text), Fraction(1, 3)]}, Pair(text, (text,)))
    given = {"P": value, "Second": Fraction(2, 3), "_Rational0": text}

    answer = shared.query_once("Same = P, Bound = _Rational0", bindings=given)

    assert answer is not None
    assert answer["Same"] == to_term(value)
    assert answer["Bound"] == text
    assert answer["Second"] == Fraction(2, 3)


def test_classes_whose_names_are_hostile_are_quoted(shared: Prolog) -> None:
    hostile = functor("f'), throw(out), g('")(dataclasses.make_dataclass("Hostile", ["a"]))
    member = enum.Enum("Odd", {"x'), throw(out), ('": 1})["x'), throw(out), ('"]  # type: ignore[misc]

    answer = shared.query_once("X = V", bindings={"V": [hostile("a"), member]})  # type: ignore[operator]

    assert answer is not None
    assert answer["X"] == [Compound("f'), throw(out), g('", ("a",)), Atom("x'), throw(out), ('")]


def test_a_zero_byte_in_a_functor_is_refused() -> None:
    value = functor("a\0b")(dataclasses.make_dataclass("Cut", ["a"]))(1)  # type: ignore[operator]

    with pytest.raises(TermError, match="zero byte"):
        to_prolog(value)


@pytest.mark.parametrize("name", [3, None, ["a"], b"a"])
def test_names_that_are_no_text_are_refused(name: Any) -> None:
    with pytest.raises(TermError, match="give a str"):
        to_prolog(Atom(name))
    with pytest.raises(TermError, match="give a str"):
        to_prolog(Compound(name, (1,)))


# -- the decorator -----------------------------------------------------------------------------------------------------


def test_no_name_is_the_class_s_own() -> None:
    assert to_term(functor(None, "y")(dataclasses.make_dataclass("OwnName", ["x", "y"]))(1, 2)) == Atom("own_name")(2)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("edge", "colour"), "has no field 'colour'; its fields are x, y"),
        (("edge", "x", "x"), "a field twice"),
    ],
)
def test_fields_that_are_not_there_are_told_at_once(arguments: Any, message: str) -> None:
    with pytest.raises(TermError, match=message):
        functor(*arguments)(dataclasses.make_dataclass("Wrong", ["x", "y"]))


def test_only_records_have_functors() -> None:
    with pytest.raises(TermError, match="no dataclass, attrs class or named tuple"):
        functor("f")(int.__class__("Plain", (), {}))
    with pytest.raises(TermError, match=r"write @functor\('name'\)"):
        functor(Point)  # type: ignore[arg-type]


def test_a_declaration_of_another_form_is_told() -> None:
    wrong = dataclasses.make_dataclass("Wrong", ["x"], namespace={"__prolog__": "wrong"})

    with pytest.raises(TermError, match="give a tuple of the functor"):
        to_term(wrong(1))


# -- variables ---------------------------------------------------------------------------------------------------------

F = Atom("f")
X, Y = Variable("X"), Variable("Y")


def test_values_are_put_in_the_places_of_variables() -> None:
    term = F(X, [Y, F(X)], Atom("X"), "X")

    assert substitute(term, {"X": Point(1, 2)}) == F(Atom("point")(1, 2), [Y, F(Atom("point")(1, 2))], Atom("X"), "X")
    assert substitute(X, {"X": Y, "Y": 1}) == Y
    assert substitute(term, {}) == term


def test_a_value_without_a_term_is_refused_though_its_variable_is_not_there() -> None:
    with pytest.raises(TermError, match="object has no"):
        substitute(F(1), {"X": object()})


def test_variables_come_once_in_their_order() -> None:
    assert variables_of(F(Y, [X, F(Y)], Point(Variable("Z"), 1))) == [Y, X, Variable("Z")]
    assert variables_of(Atom("X")) == []


def test_substituting_goes_as_deep_as_terms_do() -> None:
    term: Any = X
    for _ in range(20_000):
        term = F(term)

    assert variables_of(substitute(term, {"X": [Y]})) == [Y]


def test_what_lives_in_the_interpreter_stays_in_a_term() -> None:
    assert to_term([Opaque("<$stream>(1)")]) == [Opaque("<$stream>(1)")]


def test_floats_keep_their_sign_and_refuse_the_infinite() -> None:
    value = to_term((-0.0,))

    assert isinstance(value, list)
    assert math.copysign(1.0, value[0]) == -1.0  # type: ignore[arg-type]
    with pytest.raises(TermError, match="finite"):
        to_prolog(Point(math.inf, 1))


def test_random_s_state_is_a_tuple_like_any_other(shared: Prolog) -> None:
    state = random.Random(1).getstate()

    answer = shared.query_once("X = V", bindings={"V": state})

    assert answer is not None
    assert answer["X"] == [3, list(state[1]), Atom("none")]


def test_rationals_keep_clear_of_the_goal_s_variables(shared: Prolog) -> None:
    half = Fraction(1, 2)

    answer = shared.query_once("_Rational0 = a, Y = _Rational_0, Z = X", bindings={"X": [half], "_Rational_0": 1})
    assert answer == {"X": [half], "Y": 1, "Z": [half]}
    assert shared.query_once("X = f(V, H)", bindings={"H": half, "V": Variable("_Rational0")}) is not None
