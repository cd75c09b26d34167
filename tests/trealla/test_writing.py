"""Terms written as people do."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicate_trealla import Atom, Compound, Opaque, Prolog, Term, Variable
from replicate_trealla.testing import canonical, exact, terms
from replicate_trealla.writing import Operators, Writer, write

OPERATORS = Operators(
    [
        (1200, "xfx", ":-"),
        (1200, "fx", ":-"),
        (1100, "xfy", ";"),
        (1050, "xfy", "->"),
        (1000, "xfy", ","),
        (900, "fy", "\\+"),
        (700, "xfx", "="),
        (700, "xfx", "is"),
        (500, "yfx", "+"),
        (500, "yfx", "-"),
        (400, "yfx", "*"),
        (400, "yfx", "mod"),
        (200, "xfy", "^"),
        (200, "fy", "-"),
        (200, "xf", "days"),
    ]
)


def t(functor: str, *args: Term) -> Compound:
    return Compound(functor, args)


A, B, C = Atom("a"), Atom("b"), Atom("c")


@pytest.mark.parametrize(
    ("term", "text"),
    [
        (Atom("hello"), "hello"),
        (Atom("hello world"), "'hello world'"),
        (Atom("+"), "(+)"),
        (Atom(":-"), "(:-)"),
        (Atom("."), "'.'"),
        (Atom("[]"), "[]"),
        (-1, "-1"),
        (1.5, "1.5"),
        (Fraction(1, 3), "rdiv(1,3)"),
        ("text", '"text"'),
        (Variable("X"), "X"),
        (Opaque("<$stream>(1)"), "<$stream>(1)"),
        (["ab", 1, A], '["ab",1,a]'),
        (t(".", A, t(".", B, Variable("T"))), "[a,b|T]"),
        (t("{}", t(",", A, B)), "{a,b}"),
        (t("f", t(",", A, B), t(":-", A, B)), "f((a,b),(a:-b))"),
        (t("+", 1, t("*", 2, 3)), "1+2*3"),
        (t("*", t("+", 1, 2), 3), "(1+2)*3"),
        (t("-", t("-", 1, 2), 3), "1-2-3"),
        (t("-", 1, t("-", 2, 3)), "1-(2-3)"),
        (t("^", A, t("^", B, C)), "a^b^c"),
        (t("^", t("^", A, B), C), "(a^b)^c"),
        (t("-", 1, -1), "1- -1"),
        (t("-", 1), "-(1)"),
        (t("-", A), "-a"),
        (t("-", t("-", A)), "- -a"),
        (t("-", t(",", A, B)), "- (a,b)"),
        (t("+", Atom("-"), Atom("*")), "(-)+(*)"),
        (t("mod", 5, 3), "5 mod 3"),
        (t("is", A, B), "(a is b)"),
        (t("days", 3), "3 days"),
        (t("=", A, t("\\+", B)), "(a=(\\+b))"),
        (t(":-", A, t(",", B, t(";", t("->", B, C), C))), "(a:-b,(b->c;c))"),
        (t("unknown op", A, B), "'unknown op'(a,b)"),
    ],
)
def test_writes_terms_as_people_do(term: Term, text: str) -> None:
    assert Writer(OPERATORS).write(term) == text


def test_depth_costs_operators_but_no_recursion() -> None:
    deep: Term = A
    for _ in range(50_000):
        deep = t("-", deep)

    assert Writer(OPERATORS).write(deep).count("-") == 50_000


STANDARD_CASES = [
    (Atom("+"), "+"),
    (A, "a"),
    (Atom(""), "''"),
    (Atom("/*"), "'/*'"),
    (Atom("=.."), "=.."),
    (Atom("=."), "'=.'"),
    (t("/", A, Atom("*")), "a/(*)"),
    (t("/", Atom("foo"), 2), "foo/2"),
    (t(":", Atom("lists"), t("append", A, B, C)), "lists:append(a,b,c)"),
    (t(":", A, t(":", B, C)), "a:(b:c)"),
    (t(",", A, B), "(a,b)"),
    (t("f", t(":-", A, B), [t(",", A, B)]), "f((a:-b),[(a,b)])"),
    (t("-", t("^", 1, 2)), "-(1^2)"),
    (t("-", t("^", Variable("X"), 2)), "-X^2"),
    (t("-", t("-", 1)), "- -(1)"),
    (t("-", -1), "-(-1)"),
    (t("+", t(";", Atom("+"))), "+ (;((+)))"),
    ([t("+", Atom("-")), Atom("+")], "[+ (-),(+)]"),
    (t("+", [], t("|", Atom("+"))), "[]+('|'(+))"),
    (t("^", -1, 2), "-1^2"),
    (t("-", A, -1), "a- -1"),
    (t("=", Variable("X"), Atom("dynamic")), "X=(dynamic)"),
    (t("dynamic", t("/", A, 1)), "dynamic(a/1)"),
    (t("|", A, B), "'|'(a,b)"),
    (t("-", Fraction(1, 3), Fraction(-1, 3)), "1 rdiv 3- -1 rdiv 3"),
    (t("*", 2, Fraction(1, 3)), "2*(1 rdiv 3)"),
    (t(".", A, [B]), "[a,b]"),
    (t(".", A, "bc"), '[a|"bc"]'),
    (t("{}", A, B), "{}(a,b)"),
    (t("f", Opaque("<$stream>(3)")), "f(<$stream>(3))"),
]


@pytest.mark.parametrize(("term", "text"), STANDARD_CASES)
def test_str_writes_with_the_standard_s_operators(term: Term, text: str) -> None:
    assert write(term) == text
    if isinstance(term, (Atom, Compound)):
        assert str(term) == text


def test_a_clause_needs_no_parentheses() -> None:
    assert write(t(":-", A, t(",", B, C)), priority=1200) == "a:-b,c"


def test_long_sums_keep_their_operators() -> None:
    total: Term = 0
    for _ in range(50_000):
        total = t("+", total, A)

    assert write(total) == "0" + "+a" * 50_000


@given(term=terms(variables=("X", "Y"), distinct=False))
@settings(max_examples=300, deadline=None)
def test_what_str_writes_reads_back_as_the_same_term(shared: Prolog, term: Term) -> None:
    """Rationals are expressions there, since Trealla has no notation for them."""
    wanted = canonical(_without_rationals(term))
    answer = shared.query_once(f"Back = f(X, Y, {write(term)})")

    assert answer is not None
    back = answer["Back"]
    assert isinstance(back, Compound)
    assert exact(back.args[2]) == exact(wanted)


def _without_rationals(term: Any) -> Any:
    if isinstance(term, Fraction):
        return t("rdiv", term.numerator, term.denominator)
    if isinstance(term, list):
        return [_without_rationals(each) for each in term]
    return t(term.functor, *map(_without_rationals, term.args)) if isinstance(term, Compound) else term


_atoms = st.sampled_from(
    ["a", "+", "-", "*", "\\+", ":-", ",", ";", "|", "mod", "is", "[]", "{}", "!", "B c", "", ".", "dynamic"]
)
_leaves = st.one_of(
    _atoms.map(Atom), st.integers(-3, 3), st.sampled_from([0.5, -2.0]), st.sampled_from(["ab", "q'\"uote"]), st.just([])
)
_terms = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.builds(
            Compound,
            st.sampled_from(["f", "+", "-", "*", ":-", ",", ";", "=", "^", "is", "mod", "|", "->"]),
            st.tuples(inner, inner),
        ),
        st.builds(Compound, st.sampled_from(["f", "-", "\\+", ":-", "{}", "+", "dynamic", "B c"]), st.tuples(inner)),
        st.lists(inner, min_size=1, max_size=3).map(lambda items: [*items, 0]),
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def writer(shared: Prolog) -> Writer:
    return Writer(Operators.of(shared))


@given(term=_terms)
@settings(max_examples=300, deadline=None)
def test_what_is_written_reads_back_as_the_same_term(shared: Prolog, writer: Writer, term: Term) -> None:
    answer = shared.query_once(
        f"X = {writer.write(term)}, ( X == Y -> Same = true ; Same = false )", bindings={"Y": term}
    )

    assert answer is not None
    assert answer["Same"] == Atom("true"), writer.write(term)


def test_programs_operators_are_asked_for(single: Prolog) -> None:
    single.consult_text(":- op(700, xfx, ===>).")
    term = t("f", t("===>", A, B))

    assert write(term) == "f(===>(a,b))"
    assert write(term, operators=Operators.of(single)) == "f(a===>b)"
