"""Write terms as people do: with operators, lists and braces."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from replicate_trealla import Atom, Compound, Opaque, Term, to_prolog

__all__ = ["OPERATORS_GOAL", "Operators", "Writer"]

OPERATORS_GOAL = "findall(Priority-Type-Name, current_op(Priority, Type, Name), Operators)"
"""Gives what `Operators.read` takes, as ``Operators``."""

_ARGUMENT = 999
_ANY = 1200
_DEEPEST = 100
_SYMBOLS = frozenset("+-*/\\^<>=~:.?@#&$")
_SOLO = frozenset(("[]", "{}", "!", ";"))


class _Operator(NamedTuple):
    priority: int
    left: int
    right: int


class Operators:
    """Know which atoms are operators, and how strong they are."""

    def __init__(self, operators: Iterable[tuple[int, str, str]]) -> None:
        self.prefix: dict[str, _Operator] = {}
        self.infix: dict[str, _Operator] = {}
        self.postfix: dict[str, _Operator] = {}
        for priority, kind, name in operators:
            # An x stands for an operand that binds stronger than the operator, a y for one that may be as weak.
            below = {"x": priority - 1, "y": priority}
            if kind in ("fy", "fx"):
                self.prefix[name] = _Operator(priority, 0, below[kind[1]])
            elif kind in ("xf", "yf"):
                self.postfix[name] = _Operator(priority, below[kind[0]], 0)
            else:
                self.infix[name] = _Operator(priority, below[kind[0]], below[kind[2]])

    @classmethod
    def read(cls, term: Term) -> Operators:
        """Take them from the answer to `OPERATORS_GOAL`."""
        assert isinstance(term, list)
        found = []
        for each in term:
            assert isinstance(each, Compound)
            entry, name = each.args
            assert isinstance(entry, Compound)
            assert isinstance(name, Atom)
            priority, kind = entry.args
            assert isinstance(priority, int)
            assert isinstance(kind, Atom)
            found.append((priority, kind.name, name.name))
        return cls(found)

    def priority(self, name: str) -> int:
        """Give how weak an operator is, at its weakest; 0 for what is none."""
        tables = (self.prefix, self.infix, self.postfix)
        return max(table[name].priority if name in table else 0 for table in tables)


class Writer:
    """Write terms with some operators."""

    def __init__(self, operators: Operators) -> None:
        self._operators = operators

    def write(self, term: Term, priority: int = 699) -> str:
        """Write a term as an operand of this priority: by default, to the right of ``=``."""
        return self._write(term, priority, 0)

    def _write(self, term: Term, most: int, depth: int) -> str:
        if depth > _DEEPEST:
            return _plain(term)
        if isinstance(term, Atom):
            return _enclosed(_atom(term.name), self._operators.priority(term.name), most)
        if isinstance(term, list):
            return f"[{','.join(self._write(each, _ARGUMENT, depth + 1) for each in term)}]"
        if not isinstance(term, Compound):
            return _plain(term)
        return self._compound(term, most, depth + 1)

    def _compound(self, term: Compound, most: int, depth: int) -> str:
        name, args, operators = term.functor, term.args, self._operators
        if term.indicator == "./2":
            return self._partial_list(term, depth)
        if term.indicator == "{}/1":
            return f"{{{self._write(args[0], _ANY, depth)}}}"
        if len(args) == 2 and name in operators.infix:
            strength = operators.infix[name]
            left, right = self._operand(args[0], strength.left, depth), self._operand(args[1], strength.right, depth)
            shown = name if name in (",", "|") else _atom(name)
            spaced = f" {shown} " if shown.isalpha() or shown == "-->" else shown
            return _enclosed(_joined(left, spaced, right), strength.priority, most)
        # - 1 is a number to some readers.
        if len(args) == 1 and name in operators.prefix and not isinstance(args[0], (int, float)):
            strength = operators.prefix[name]
            text = _joined(_atom(name), self._operand(args[0], strength.right, depth), open_apart=True)
            return _enclosed(text, strength.priority, most)
        if len(args) == 1 and name in operators.postfix:
            strength = operators.postfix[name]
            text = _joined(self._operand(args[0], strength.left, depth), _atom(name))
            return _enclosed(text, strength.priority, most)
        return f"{_atom(name)}({','.join(self._write(each, _ARGUMENT, depth) for each in args)})"

    def _operand(self, term: Term, most: int, depth: int) -> str:
        if isinstance(term, Atom) and self._operators.priority(term.name):
            return f"({_atom(term.name)})"
        return self._write(term, most, depth)

    def _partial_list(self, term: Compound, depth: int) -> str:
        items: list[str] = []
        rest: Term = term
        while isinstance(rest, Compound) and rest.indicator == "./2":
            items.append(self._write(rest.args[0], _ARGUMENT, depth))
            rest = rest.args[1]
        return f"[{','.join(items)}|{self._write(rest, _ARGUMENT, depth)}]"


def _plain(term: Term) -> str:
    """Write a term without operators, which needs no recursion."""
    return term.text if isinstance(term, Opaque) else to_prolog(term)


def _atom(name: str) -> str:
    """Write an atom, quoted where it must be."""
    return name if name in _SOLO or (name != "." and _SYMBOLS.issuperset(name) and name) else str(Atom(name))


def _enclosed(text: str, priority: int, most: int) -> str:
    return f"({text})" if priority > most else text


def _joined(*pieces: str, open_apart: bool = False) -> str:
    """Put tokens side by side, with spaces only where they would be read as one, or as a call."""
    text = ""
    for piece in pieces:
        last, first = text[-1:], piece[:1]
        words = _in_word(last) and _in_word(first)
        if words or (last in _SYMBOLS and first in _SYMBOLS) or (open_apart and text and first == "("):
            text += " "
        text += piece
    return text


def _in_word(character: str) -> bool:
    return character.isalnum() or character == "_"
