"""Make the error terms of the Prolog standard, predicate indicators and option lists.

::

    raise PrologError.of(iso.type_error("integer", culprit))

Each error is a whole ``error(Kind, Context)``, whose context is a fresh variable unless one is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from replicate_trealla.errors import PrologError, TermError
from replicate_trealla.terms import Atom, Compound, Variable
from replicate_trealla.to_terms import to_term

if TYPE_CHECKING:
    from replicate_trealla.terms import Term

__all__ = [
    "domain_error",
    "error",
    "evaluation_error",
    "existence_error",
    "indicator",
    "instantiation_error",
    "option_list",
    "options_of",
    "permission_error",
    "representation_error",
    "resource_error",
    "syntax_error",
    "system_error",
    "type_error",
]


def error(kind: Term, *, context: Term | None = None) -> Compound:
    """Make ``error(Kind, Context)``, for a kind that has no function here."""
    return Compound("error", (kind, Variable("_") if context is None else context))


def instantiation_error(*, context: Term | None = None) -> Compound:
    """Say that an argument is a variable, or contains one, where a value is needed."""
    return error(Atom("instantiation_error"), context=context)


def type_error(type: str, culprit: Term, *, context: Term | None = None) -> Compound:  # noqa: A002 - the standard's word
    """Say that a term is of another type than needed: ``integer``, ``callable``, ``list``, ..."""
    return error(Compound("type_error", (Atom(type), culprit)), context=context)


def domain_error(domain: str, culprit: Term, *, context: Term | None = None) -> Compound:
    """Say that a term is of the right type and has none of the values allowed: ``not_less_than_zero``, ..."""
    return error(Compound("domain_error", (Atom(domain), culprit)), context=context)


def existence_error(kind: str, culprit: Term, *, context: Term | None = None) -> Compound:
    """Say that something isn't there: a ``procedure``, ``source_sink``, ``stream``, ..."""
    return error(Compound("existence_error", (Atom(kind), culprit)), context=context)


def permission_error(action: str, kind: str, culprit: Term, *, context: Term | None = None) -> Compound:
    """Say that something mustn't be done: to ``modify`` a ``static_procedure``, ``open`` a ``source_sink``, ..."""
    return error(Compound("permission_error", (Atom(action), Atom(kind), culprit)), context=context)


def representation_error(limit: str, *, context: Term | None = None) -> Compound:
    """Say that a value is beyond what can be represented: ``max_arity``, ``character``, ..."""
    return error(Compound("representation_error", (Atom(limit),)), context=context)


def evaluation_error(kind: str, *, context: Term | None = None) -> Compound:
    """Say that an expression has no value: ``zero_divisor``, ``undefined``, ..."""
    return error(Compound("evaluation_error", (Atom(kind),)), context=context)


def resource_error(resource: str, *, context: Term | None = None) -> Compound:
    """Say that there isn't enough of something: ``memory``, ..."""
    return error(Compound("resource_error", (Atom(resource),)), context=context)


def syntax_error(reason: str, *, context: Term | None = None) -> Compound:
    """Say that text isn't Prolog."""
    return error(Compound("syntax_error", (Atom(reason),)), context=context)


def system_error(reason: Term | None = None, *, context: Term | None = None) -> Compound:
    """Say that the system failed: ``system_error``, or ``system_error(Reason)`` where there's more to say."""
    return error(Atom("system_error") if reason is None else Compound("system_error", (reason,)), context=context)


# -- predicate indicators and option lists -----------------------------------------------------------------------------


def indicator(predicate: str | Atom | Compound, arity: int | None = None) -> Compound:
    """Make ``Name/Arity``, of a name and a number of arguments, or of a goal: ``foo(1, 2)`` gives ``foo/2``."""
    name, own = predicate, 0
    if isinstance(predicate, Atom):
        name = predicate.name
    elif isinstance(predicate, Compound):
        name, own = predicate.functor, len(predicate.args)
    if not isinstance(name, str) or (arity is None and isinstance(predicate, str)):
        raise TermError(f"{predicate!r} has no predicate indicator: give a name and an arity, an Atom or a Compound")
    return Compound("/", (Atom(name), own if arity is None else arity))


def option_list(options: Mapping[str, object]) -> list[Term]:
    """Make an option list, as predicates take it: ``{"quoted": True}`` gives ``[quoted(true)]``."""
    return [Compound(name, (to_term(value),)) for name, value in options.items()]


def options_of(term: Term) -> dict[str, Term]:
    """Read an option list, as predicates are given it: ``[quoted(true)]`` gives ``{"quoted": Atom("true")}``.

    The first of several options of one name counts, and an atom alone stands for its option with ``true``. Raises
    `PrologError` with the ball that a predicate of Prolog throws: ``instantiation_error``, ``type_error(list, T)`` or
    ``domain_error(option, T)``.
    """
    if isinstance(term, str):
        term = [Atom(character) for character in term]
    if not isinstance(term, list):
        raise PrologError.of(instantiation_error() if _ends_open(term) else type_error("list", term))
    options: dict[str, Term] = {}
    for option in term:
        if isinstance(option, Variable):
            raise PrologError.of(instantiation_error())
        if isinstance(option, Atom):
            options.setdefault(option.name, Atom("true"))
        elif isinstance(option, Compound) and len(option.args) == 1:
            options.setdefault(option.functor, option.args[0])
        else:
            raise PrologError.of(domain_error("option", option))
    return options


def _ends_open(term: Term) -> bool:
    while isinstance(term, Compound) and term.indicator == "./2":
        term = term.args[1]
    return isinstance(term, Variable)
