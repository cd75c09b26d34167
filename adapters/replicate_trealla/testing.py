"""Draw Prolog terms with hypothesis. Needs the extra ``wasm-replicate[testing]``.

::

    @given(term=terms())
    def test_my_program_gives_back_what_it_gets(term):
        assert prolog.query_once("mine(X, Y)", bindings={"X": term})["Y"] == term
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

try:
    from hypothesis import strategies as st
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "replicate_trealla.testing needs hypothesis: pip install 'wasm-replicate[testing]'", name="hypothesis"
    ) from error

from replicate_trealla.terms import Atom, Compound, Term, Variable

__all__ = ["atoms", "canonical", "exact", "numbers", "terms", "texts"]

_ODD = (
    *(
        "[]",
        "{}",
        "!",
        ";",
        ",",
        "|",
        ".",
        "'",
        '"',
        "`",
        "\\",
        " ",
        "\n",
        "%",
        "/*",
        "*/",
        "0'",
        "é",
        "名",
        "\U0001f600",
    ),
    *("-", "+", "*", ":-", "-->", "?-", "\\+", "=", "=..", "^", ":", "->", "@", "$", "#", "?", "++", "=.", "..", "..."),
    *("is", "mod", "rdiv", "dynamic", "table", "a", "Ab", "_", "A", "true", "null", "end_of_file", "$VAR", "a.b"),
)
_FLOATS = (
    -0.0,
    5e-324,
    -5e-324,
    2.2250738585072014e-308,
    1.7976931348623157e308,
    1e22,
    0.1,
    1e16,
    123456789012345680.0,
)


def texts(*, max_size: int = 12) -> st.SearchStrategy[str]:
    """Draw what a string or an atom's name may be: any Unicode text, zero bytes too."""
    return st.text(st.characters(exclude_categories=["Cs"]), max_size=max_size) | st.sampled_from(_ODD)


def atoms() -> st.SearchStrategy[Atom]:
    """Draw atoms, operators and the empty name among them; not ``[]``, which is the empty list."""
    return texts().filter(lambda name: name != "[]").map(Atom)


def numbers() -> st.SearchStrategy[int | float | Fraction]:
    """Draw integers of any size, finite floats and rationals."""
    huge = st.builds(lambda bits, low: (1 << bits) + low, st.integers(60, 40_000), st.integers(-2, 2))
    floats = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(_FLOATS)
    return st.integers() | huge | huge.map(lambda value: -value) | floats | st.fractions().map(_whole)


def _whole(value: Fraction) -> int | Fraction:
    return value.numerator if value.denominator == 1 else value


def terms(*, variables: tuple[str, ...] = (), max_leaves: int = 12, distinct: bool = True) -> st.SearchStrategy[Any]:
    """Draw terms: atoms, numbers, strings, lists, with and without an end, and compound terms, nested.

    `variables` are names of variables to draw as well; `max_leaves` bounds the size. Several Python values are one term to
    Prolog; with `distinct`, only the one that arrives is drawn, so that what comes back is equal to what went (see
    `canonical`).
    """
    # The interpreter's reader cuts names of compound terms off at a zero byte.
    functors = texts().map(lambda name: name.replace("\0", ""))
    leaves: st.SearchStrategy[Any] = atoms() | numbers() | texts()
    if variables:
        leaves |= st.sampled_from(variables).map(Variable)

    def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        several = st.lists(inner, min_size=1, max_size=4).map(tuple)
        compound: Callable[[str, tuple[Any, ...]], Compound] = Compound
        return (
            st.lists(inner, max_size=4)
            | st.lists(st.sampled_from("ab-").map(Atom), max_size=3)
            | st.builds(compound, functors, several)
            | st.builds(lambda first, rest: Compound(".", (first, rest)), inner, inner)
            | st.builds(lambda name, pair: Compound(name, pair), functors, st.tuples(inner, inner))
        )

    drawn = st.recursive(leaves, nested, max_leaves=max_leaves)
    return drawn.map(canonical) if distinct else drawn


def canonical(term: Any) -> Term:
    """Give the value as which a term arrives, whichever of the values that are the same to Prolog it was given as.

    A list of single characters is a str, ``""`` is ``[]``, ``'.'(a, [b])`` is a list, and a `Fraction` with the denominator
    1 is an int.
    """
    if isinstance(term, Compound):
        args = tuple(map(canonical, term.args))
        if term.functor == "." and len(args) == 2 and isinstance(args[1], (list, str)):
            rest: list[Term] = list(map(Atom, args[1])) if isinstance(args[1], str) else args[1]
            return canonical([args[0], *rest])
        return Compound(term.functor, args)
    if isinstance(term, Fraction) and term.denominator == 1:
        return term.numerator
    if isinstance(term, list):
        elements = [canonical(element) for element in term]
        names = [element.name for element in elements if isinstance(element, Atom) and len(element.name) == 1]
        return "".join(names) if elements and len(names) == len(elements) else elements
    if isinstance(term, bool):
        return Atom("true" if term else "false")
    if term == "" and isinstance(term, str):
        return []
    value: Term = term
    return value


def exact(term: Term) -> Any:
    """Give a value that is equal only for terms of the same types and bits: ``1 == 1.0`` and ``0.0 == -0.0`` in Python."""
    if isinstance(term, Compound):
        return ("compound", term.functor, [exact(arg) for arg in term.args])
    if isinstance(term, list):
        return [exact(element) for element in term]
    if isinstance(term, float):
        return ("float", term.hex())
    return (type(term).__name__, term)
