"""Terms as Python values, by type; and values there and back."""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import enum
import http
import pickle
import typing
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, Optional, TypeVar, Union

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicate_trealla import (
    Atom,
    Compound,
    ConversionError,
    Opaque,
    Prolog,
    Term,
    TermError,
    Variable,
    convert,
    functor,
    to_term,
)
from replicate_trealla.testing import texts

T = TypeVar("T")
Bound = TypeVar("Bound", bound=int)
Name = NewType("Name", str)
A, X = Atom("a"), Variable("X")
t = Compound


class Color(enum.Enum):
    RED = "dark red"
    BLUE = 2


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: int = 0


@attrs.frozen
class Circle:
    center: Point
    _radius: float = attrs.field(default=1.0, validator=attrs.validators.gt(0))
    area: float = attrs.field(default=0.0, init=False)


class Pair(NamedTuple):
    first: str
    second: Optional[int] = None


@dataclasses.dataclass(frozen=True)
class Box(Generic[T]):
    content: T
    more: list[T]


@functor("tree", "left", "value", "right")
@dataclasses.dataclass(frozen=True)
class Tree:
    value: int
    left: Tree | None = None
    right: Tree | None = None


@dataclasses.dataclass(frozen=True)
class Holder:
    term: Term
    anything: Any
    terms: list[Term] | None = None


@dataclasses.dataclass(frozen=True)
class Empty:
    pass


NOW = datetime.datetime(2024, 2, 29, 1, 2, 3, tzinfo=datetime.timezone.utc)
FITTING: list[tuple[Any, Any, Any]] = [
    (1, int, 1),
    (1, float, 1.0),
    (1.5, float, 1.5),
    (A, str, "a"),
    ("a", str, "a"),
    ([], str, ""),
    (Atom(""), str, ""),
    (Atom("true"), bool, True),
    (Atom("false"), bool, False),
    (Atom("none"), None, None),
    (Fraction(1, 3), Fraction, Fraction(1, 3)),
    (2, Fraction, Fraction(2)),
    (Fraction(11, 10), Decimal, Decimal("1.1")),
    (10**30, Decimal, Decimal(10**30)),
    ([0, 255], bytes, b"\0\xff"),
    ([], bytes, b""),
    ("2024-02-29", datetime.date, NOW.date()),
    (Atom("01:02:03"), datetime.time, NOW.time()),
    ("2024-02-29T01:02:03+00:00", datetime.datetime, NOW),
    (t("f", (X,)), Term, t("f", (X,))),
    (X, Any, X),
    (X, object, X),
    (X, Variable, X),
    (A, Atom, A),
    (t("f", (1,)), Compound, t("f", (1,))),
    (Opaque("<s>"), Opaque, Opaque("<s>")),
    ([1, A], list, [1, A]),
    ("ab", list, [Atom("a"), Atom("b")]),
    ("ab", list[str], ["a", "b"]),
    ([1, 2], list[int], [1, 2]),
    ([1, 2], typing.List[int], [1, 2]),  # noqa: UP006
    ([1, 2], collections.abc.Sequence[int], [1, 2]),
    ([1, 2, 1], set[int], {1, 2}),
    ([1, 2], frozenset[int], frozenset({1, 2})),
    ([1, A], tuple[int, str], (1, "a")),
    (t("-", (1, A)), tuple[int, str], (1, "a")),
    ([1, 2, 3], tuple[int, ...], (1, 2, 3)),
    ([1, A], tuple, (1, A)),
    ([], tuple[()], ()),
    ([t("-", (A, 1)), t("=", ("b", 2))], dict[str, int], {"a": 1, "b": 2}),
    ([], dict, {}),
    ([t("-", (1, A))], dict, {1: A}),
    ([t("-", (1, A))], collections.abc.Mapping[int, str], {1: "a"}),
    (Atom("none"), Optional[str], None),
    ("none", Optional[str], "none"),
    (X, Optional[int], None),
    (X, int | Variable | None, X),
    (1, Union[float, int], 1),
    (1.0, int | float, 1.0),
    ("a", int | str, "a"),
    (A, int | str, "a"),
    (A, Union[int, Atom], A),
    (A, Literal["a", "b"], "a"),
    ("b", Literal["a", "b"], "b"),
    (2, Literal[1, 2], 2),
    (Atom("true"), Literal[1, True], True),
    (Atom("none"), Literal["x", None], None),
    (Atom("dark red"), Color, Color.RED),
    ("dark red", Color, Color.RED),
    (Atom("BLUE"), Color, Color.BLUE),
    (2, Color, Color.BLUE),
    (404, http.HTTPStatus, http.HTTPStatus.NOT_FOUND),
    (Atom("BLUE"), Literal[Color.BLUE], Color.BLUE),
    (t("point", (1, 2)), Point, Point(1, 2)),
    (t("circle", (t("point", (1, 2)), 3)), Circle, Circle(Point(1, 2), 3.0)),
    (t("pair", (A, Atom("none"))), Pair, Pair("a")),
    (t("box", (1, [2])), Box[int], Box(1, [2])),
    (t("box", (A, "b")), Box[str], Box("a", ["b"])),
    (t("box", (A, [X])), Box, Box(A, [X])),
    (t("tree", (Atom("none"), 1, t("tree", (Atom("none"), 2, Atom("none"))))), Tree, Tree(1, None, Tree(2))),
    (t("holder", (X, A, [X])), Holder, Holder(X, A, [X])),
    (Atom("empty"), Empty, Empty()),
    ("a", Name, Name("a")),
    (1, Annotated[int, "whatever"], 1),
    (1, Bound, 1),
    (t("point", (1, 2)), int | Point, Point(1, 2)),
    (
        [t("point", (1, 2)), t("circle", (t("point", (1, 2)), 1.5))],
        list[Point | Circle],
        [Point(1, 2), Circle(Point(1, 2), 1.5)],
    ),
]


@pytest.mark.parametrize(("term", "kind", "value"), FITTING, ids=[f"{term!r:.30}-{kind}" for term, kind, _ in FITTING])
def test_terms_become_what_is_asked_for(term: Any, kind: Any, value: Any) -> None:
    made = convert(term, kind)

    assert made == value
    assert type(made) is type(value)


UNFIT: list[tuple[Any, Any, str]] = [
    (A, int, r"term: expected int, got Atom\('a'\)"),
    (1.0, int, r"term: expected int, got 1\.0"),
    (A, float, r"term: expected float, got Atom\('a'\)"),
    (10**400, float, r"term: expected float, which holds no integer of this size"),
    (10**6000, str, r"term: expected str, got 0x"),
    (Atom("True"), bool, r"expected bool \(true or false\)"),
    (1, bool, r"expected bool"),
    (1, None, r"expected None"),
    (0.5, Fraction, r"expected Fraction, got 0\.5"),
    (Fraction(1, 3), Decimal, r"finitely many digits"),
    (0.1, Decimal, r"expected Decimal"),
    ([256], bytes, r"expected bytes"),
    ([True], bytes, r"expected bytes"),
    ("no date", datetime.date, r"expected date, as ISO 8601 text, got 'no date'"),
    (1, datetime.datetime, r"expected datetime"),
    (1, list[int], r"term: expected list\[int\], got 1"),
    (t(".", (1, X)), list[int], r"term: expected list\[int\], got Compound"),
    ([1, [2, A]], list[int | list[int]], r"term\[1\]\[1\]: expected int, got Atom\('a'\)"),
    ([1], tuple[int, int], r"expected a list of 2, as of tuple\[int, int\], got \[1\]"),
    ([1], tuple[()], r"an empty list"),
    (t("-", (1, A)), tuple[int, int], r"term\.args\[1\]: expected int"),
    ([t("f", (1, 2))], dict, r"term\[0\]: expected Key-Value or Key=Value"),
    ([t("-", (1, 2)), t("-", (1, 3))], dict, r"term\[1\]: the key 1 is there twice"),
    ([t("-", (A, A))], dict[str, int], r"term\['a'\]: expected int"),
    ([t("-", ([1], A))], dict[list[int], Any], r"hashable"),
    ([[1]], set[list[int]], r"hashable"),
    (A, Optional[int], r"term: expected Optional\[int\], got"),
    (A, int | float, r"term: expected int \| float, got"),
    (Atom("c"), Literal["a", "b"], r"one of 'a', 'b', got Atom\('c'\)"),
    (1, Literal[True], r"one of True"),
    (Atom("GREEN"), Color, r"expected Color \('dark red', 'BLUE'\), got"),
    (t("point", (1,)), Point, r"term: expected point/2, as of Point, got"),
    (t("Point", (1, 2)), Point, r"expected point/2"),
    (t("point", (1, A)), Point, r"term\.args\[1\]: expected int"),
    (t("circle", (t("point", (1, A)), 1)), Circle, r"term\.args\[0\]\.args\[1\]: expected int"),
    ([t("point", (1, A))], list[Point | Circle], r"term\[0\]\.args\[1\]: expected int"),
    (Atom("empty"), Point, r"expected point/2"),
    (t("box", (1, [A])), Box[int], r"term\.args\[1\]\[0\]: expected int"),
]


@pytest.mark.parametrize(
    ("term", "kind", "message"),
    UNFIT,
    ids=[f"{term!s:.30}-{kind}" if type(term) is not int else str(kind) for term, kind, _ in UNFIT],
)
def test_what_does_not_fit_is_told_with_its_place(term: Any, kind: Any, message: str) -> None:
    with pytest.raises(TermError, match=message):
        convert(term, kind)


def test_a_class_that_refuses_its_values_is_told() -> None:
    with pytest.raises(TermError, match=r"term\[0\]: Circle can't be made of this: '_?radius' must be > 0") as caught:
        convert([t("circle", (t("point", (1, 2)), -1))], list[Circle])

    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("kind", [complex, object(), "int", typing.Callable, range])
def test_types_that_nothing_is_made_into_are_told(kind: Any) -> None:
    with pytest.raises(TermError, match="nothing is made into"):
        convert(1, kind)


def test_types_that_cannot_be_looked_up_are_told() -> None:
    @dataclasses.dataclass
    class Local:
        a: Nowhere  # type: ignore[name-defined] # noqa: F821

    with pytest.raises(TermError, match="the types of .*Local's fields can't be looked up: name 'Nowhere'"):
        convert(t("local", (1,)), Local)


def test_what_is_nested_too_deep_for_classes_is_told() -> None:
    term: Any = Atom("none")
    for _ in range(5000):
        term = t("tree", (Atom("none"), 1, term))

    with pytest.raises(TermError, match="nested too deep"):
        convert(term, Tree)


def test_errors_survive_pickling() -> None:
    with pytest.raises(ConversionError) as caught:
        convert([A], list[int])

    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.path) == (str(caught.value), "term[0]")


# -- answers -----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Row:
    name: str
    born_in: int
    children: list[str] = dataclasses.field(default_factory=list)


@attrs.frozen
class Tagged:
    count: Annotated[int, Variable("N")]
    rest: Annotated[int, Variable("Rest")] = 7


@pytest.mark.parametrize("variables", ["Name, BornIn", "Name, Born_in", "Name, Born_In", "NAME, BORNIN"])
def test_answers_fill_classes_by_the_fields_names(shared: Prolog, variables: str) -> None:
    first, second = variables.split(", ")
    answer = shared.query_once(f"{first} = ann, {second} = 1990, Extra = 1")

    assert answer is not None
    assert answer.to(Row) == Row("ann", 1990)


def test_a_name_that_is_there_exactly_wins() -> None:
    from replicate_trealla import Answer

    answer = Answer({"Name": A, "BornIn": 1, "born_in": 2})
    assert answer.to(Row).born_in == 2
    with pytest.raises(TermError, match="variables BornIn and Bornin could both be born_in"):
        Answer({"Name": A, "BornIn": 1, "Bornin": 2}).to(Row)


def test_variables_may_be_named_in_the_annotation(shared: Prolog) -> None:
    answer = shared.query_once("Count = 1, N = 2")

    assert answer is not None
    assert answer.to(Tagged) == Tagged(2, 7)


def test_answers_become_dicts_of_one_type(shared: Prolog) -> None:
    answer = shared.query_once("A = 1, B = 2")

    assert answer is not None
    assert answer.to(dict[str, float]) == {"A": 1.0, "B": 2.0}
    with pytest.raises(TermError, match=r"answer\['A'\]: expected str"):
        answer.to(dict[str, str])


def test_what_an_answer_lacks_is_told(shared: Prolog) -> None:
    answer = shared.query_once("Name = ann, Other = 1")

    assert answer is not None
    with pytest.raises(TermError, match="no variable for born_in of Row; it has Name, Other"):
        answer.to(Row)
    with pytest.raises(TermError, match="use convert for a single term"):
        answer.to(int)


def test_what_does_not_fit_in_an_answer_is_told_with_its_place(shared: Prolog) -> None:
    answer = shared.query_once("Name = ann, BornIn = 1, Children = [x, f(y)]")

    assert answer is not None
    with pytest.raises(
        ConversionError, match=r"answer\['Children'\]\[1\]: expected str, got Compound\('f', "
    ) as caught:
        answer.to(Row)
    assert caught.value.path == "answer['Children'][1]"


# -- there and back ----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Everything:
    text: str
    number: int
    real: float
    rational: Fraction
    decimal: Decimal
    flag: bool
    data: bytes
    when: datetime.datetime
    day: datetime.date
    color: Color
    maybe: str | None
    points: tuple[Point, ...]
    pair: tuple[str, int]
    table: dict[str, list[str]]
    keys: dict[int, Color]
    nested: Box[int] | Point | None
    tree: Tree


POINTS = st.builds(Point, st.integers(), st.integers())
TREES = st.recursive(
    st.builds(Tree, st.integers()),
    lambda inner: st.builds(Tree, st.integers(), st.none() | inner, st.none() | inner),
    max_leaves=5,
)
REALS = st.floats(allow_nan=False, allow_infinity=False)
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20)
EVERYTHING = st.builds(
    Everything,
    text=texts(),
    number=st.integers(),
    real=REALS,
    rational=st.fractions(),
    decimal=DECIMALS,
    flag=st.booleans(),
    data=st.binary(max_size=8),
    when=st.datetimes(timezones=st.none() | st.just(datetime.timezone.utc)),
    day=st.dates(),
    color=st.sampled_from(Color),
    maybe=st.none() | texts() | st.just("none"),
    points=st.lists(POINTS, max_size=3).map(tuple),
    pair=st.tuples(texts(), st.integers()),
    table=st.dictionaries(texts(), st.lists(texts(), max_size=3), max_size=3),
    keys=st.dictionaries(st.integers(), st.sampled_from(Color), max_size=3),
    nested=st.none() | POINTS | st.builds(Box, st.integers(), st.lists(st.integers(), max_size=3)),
    tree=TREES,
)


@settings(deadline=None, max_examples=150)
@given(value=EVERYTHING)
def test_values_come_back_as_they_went(shared: Prolog, value: Everything) -> None:
    answer = shared.query_once("Back = Given", bindings={"Given": value})

    assert answer is not None
    assert convert(answer["Back"], Everything) == value
    assert answer["Back"] == to_term(answer["Back"])


class Brackets(enum.Enum):
    NONE = "[]"
    BOTH = "{}"


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({"[]": 1, "": 2, "a": 3, "{}": 4}, dict[str, int]),
        ([Brackets.NONE, Brackets.BOTH], list[Brackets]),
        (["[]", "", "none", "true"], list[str]),
        ((None, "none", True, "true"), tuple[str | None, str | None, bool | str, bool | str]),
        ({"none": None}, dict[str, str | None]),
        ("a", Literal["a"]),
        ([b"", b"\0"], list[bytes]),
    ],
)
def test_values_that_look_like_others_come_back(shared: Prolog, value: Any, kind: Any) -> None:
    answer = shared.query_once("Back = f(Given)", bindings={"Given": value})

    assert answer is not None
    back = answer["Back"]
    assert isinstance(back, Compound)
    assert convert(back.args[0], kind) == value
