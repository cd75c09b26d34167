"""Clauses to add and remove, given as Python terms."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

import attrs

from replicate_trealla.errors import TermError
from replicate_trealla.queries import first
from replicate_trealla.requests import with_rationals
from replicate_trealla.steps import Collect
from replicate_trealla.terms import Atom, Compound, write_term
from replicate_trealla.to_terms import lowered

if TYPE_CHECKING:
    from replicate.handles import Guest

__all__ = ["Change", "Kind", "change"]

Kind: TypeAlias = Literal["asserta", "assertz", "retract", "retractall"]
_COUNT = "ReplicateCount"
_AT_ONCE = 1000
"""So many clauses are one request: more cost the guest memory, for the text and for what is read."""


@attrs.frozen
class Change:
    """Run requests that change the program, and give how many clauses they were about."""

    requests: tuple[bytes, ...]
    kind: Kind

    def __call__(self, guest: Guest) -> int:
        count = 0
        for request in self.requests:
            answer = first(Collect(request, 1)(guest)[0], self.kind)
            assert answer is not None
            (found,) = (value for value in answer.values() if isinstance(value, int))  # the others are unbound
            count += found
        return count


def change(kind: Kind, clauses: tuple[object, ...]) -> Change:
    """Make the change of some clauses; raise `TermError` if one can't be a clause."""
    for position, clause in enumerate(clauses):
        if not isinstance(lowered(clause), (Atom, Compound)):
            raise TermError(_refusal(kind, position, clause))
    return Change(tuple(_requests(kind, clauses)), kind)


def _requests(kind: Kind, clauses: tuple[object, ...]) -> Iterator[bytes]:
    for start in range(0, len(clauses), _AT_ONCE):
        computed, text = with_rationals(partial(write_term, list(clauses[start : start + _AT_ONCE])))
        result = _COUNT
        while result in text:
            result += "_"  # the clauses may have variables of any name
        goal = f"'$replicate':change({kind},{text},0,{result})"
        yield f"'$replicate'(all,[{','.join(computed)}]):-\n{goal}".encode()


def _refusal(kind: Kind, position: int, clause: object) -> str:
    what = f"argument {position + 1} of {kind} is {clause!r:.80}, and no clause"
    if isinstance(clause, str):
        return f"{what}: a str is a Prolog string; give Atom('edge')('a', 'b'), or the text to execute('{kind}(...)')"
    if isinstance(clause, (list, tuple)):
        return f"{what}: give several clauses as several arguments, {kind}(*clauses)"
    return f"{what}: give an Atom or a Compound, as Atom('edge')('a', 'b')"
