"""Write terms as people do: with operators, lists and braces."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Any, NamedTuple, Protocol

from replicate_trealla.terms import Atom, Compound, Opaque, Term, to_prolog

__all__ = ["OPERATORS_GOAL", "STANDARD", "Operators", "Writer", "write"]

OPERATORS_GOAL = "findall(Priority-Type-Name, current_op(Priority, Type, Name), Operators)"
"""Gives what `Operators.read` takes, as ``Operators``."""

_ARGUMENT = 999
_ANY = 1200
_SYMBOLS = frozenset("+-*/\\^<>=~:.?@#&$")
_SOLO = frozenset(("[]", "{}", "!", ";"))


class _Asked(Protocol):
    def query_once(self, goal: str) -> Any: ...


class _Operator(NamedTuple):
    priority: int
    left: int
    right: int


class Operators:
    """Know which atoms are operators, and how strong they are.

    Given as `current_op/3` has them: priority, type, name. `others` are atoms that may be operators or not: no term is
    written with them as such, and alone they're put in parentheses wherever an operator is.
    """

    def __init__(self, operators: Iterable[tuple[int, str, str]], *, others: Iterable[str] = ()) -> None:
        self.prefix: dict[str, _Operator] = {}
        self.infix: dict[str, _Operator] = {}
        self.postfix: dict[str, _Operator] = {}
        self._others = frozenset(others)
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
    def of(cls, prolog: _Asked) -> Operators:
        """Ask an interpreter or a pool for its operators, those of its programs among them."""
        answer = prolog.query_once(OPERATORS_GOAL)
        return cls.read(answer["Operators"] if answer else [])

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
        if name in self._others:
            return _ANY
        tables = (self.prefix, self.infix, self.postfix)
        return max(table[name].priority if name in table else 0 for table in tables)


def _standard() -> Operators:
    table = {
        (1200, "xfx"): ":- -->",
        (1200, "fx"): ":- ?-",
        (1100, "xfy"): ";",
        (1050, "xfy"): "-> *->",
        (1000, "xfy"): ",",
        (900, "fy"): "\\+",
        (700, "xfx"): "= \\= == \\== @< @> @=< @>= =.. is =:= =\\= < > =< >=",
        (500, "yfx"): "+ - /\\ \\/",
        (400, "yfx"): "* / // div mod rem rdiv << >>",
        (200, "xfx"): "**",
        (200, "xfy"): "^",
        (200, "fy"): "- + \\",
    }
    others = (
        "| ++ -- @ ? $ . .. := => ==> <=> xor as in ins divmod tnot =@= \\=@= >:< :< "
        "attribute discontiguous dynamic ensure_loaded include initialization meta_predicate module multifile public "
        "table use_module use_foreign_module"
    )
    made = Operators(
        ((*strength, name) for strength, names in table.items() for name in names.split()), others=others.split()
    )
    # Versions differ in how strong it is; so it's taken for a weak one outside, and for the strongest inside.
    made.infix[":"] = _Operator(600, 0, 0)
    return made


STANDARD = _standard()
"""The standard's operators, and ``:``. What is written with them reads back in all versions of Trealla."""


def write(term: Term, *, priority: int = _ARGUMENT, operators: Operators = STANDARD) -> str:
    """Write a term with operators, lists and braces; it reads back as the same term.

    Operators weaker than `priority` are put in parentheses: by default the text can stand as an argument; 1200 is for a
    whole clause, 699 for what is to follow ``=``. Programs may change what is an operator: give `Operators.of` theirs then.

    An `Opaque` is written as its text, and a `Fraction` as ``1 rdiv 3``; these don't read back as what they were.
    """
    return Writer(operators).write(term, priority)


class Writer:
    """Write terms with some operators."""

    def __init__(self, operators: Operators) -> None:
        self._operators = operators

    def write(self, term: Term, priority: int = 699) -> str:
        """Write a term as an operand of this priority: by default, to the right of ``=``."""
        text = _Text()
        # What remains to be written, last first, so that no depth is too deep.
        todo: list[str | _Pending] = [_Pending(term, priority, priority < _ARGUMENT)]
        while todo:
            item = todo.pop()
            if isinstance(item, str):
                text.add(item)
            else:
                todo.extend(reversed(self._parts(*item)))
        return text.whole()

    def _parts(self, term: Term, most: int, operand: bool) -> list[str | _Pending]:
        """Split a term into tokens and what they stand between."""
        if isinstance(term, Atom):
            weak = self._operators.priority(term.name)
            token = _atom(term.name)
            if weak > most or (weak and operand):
                return ["(", token, ")"]
            return [_Alone(token) if weak else token]
        if isinstance(term, list) or (isinstance(term, Compound) and term.indicator == "./2"):
            return _list(term)
        if isinstance(term, Fraction):
            term = Compound("rdiv", (term.numerator, term.denominator))
        if not isinstance(term, Compound):
            return [term.text if isinstance(term, Opaque) else to_prolog(term)]
        if term.indicator == "{}/1":
            return ["{", _Pending(term.args[0], _ANY), "}"]
        name, args = term.functor, term.args
        strength = self._strength(term)
        if strength is None:
            called: list[str | _Pending] = [f"{_atom(name)}(", *_separated(args), ")"]
            # The reader takes the name of +;(a) for an operator.
            confusing = operand and name not in self._operators.prefix and self._operators.priority(name)
            return ["(", *called, ")"] if confusing else called
        token = name if name in (",", "|") else _atom(name)
        parts: list[str | _Pending]
        if len(args) == 2:
            spaced = f" {token} " if token[0].isalpha() or token[0] == "'" or token == "-->" else token
            parts = [_Pending(args[0], strength.left, True), spaced, _Pending(args[1], strength.right, True)]
        elif name in self._operators.prefix:
            parts = [token, _APART, _Pending(args[0], strength.right, True)]
        else:
            parts = [_Pending(args[0], strength.left, True), token]
        return ["(", *parts, ")"] if strength.priority > most else parts

    def _strength(self, term: Compound) -> _Operator | None:
        """Give the operator a term is to be written with."""
        name, count, operators = term.functor, len(term.args), self._operators
        if count == 2:
            return operators.infix.get(name)
        if count == 1 and name in operators.prefix:
            strength = operators.prefix[name]
            return None if self._starts_with_number(term.args[0], strength.right) else strength
        return operators.postfix.get(name) if count == 1 else None

    def _starts_with_number(self, term: Term, most: int) -> bool:
        """Tell whether a prefix operator would stand before a number: - 1 is a number, and - 1 ^ 2 is a power of one."""
        while isinstance(term, Compound):
            strength = None if len(term.args) == 1 and term.functor in self._operators.prefix else self._strength(term)
            if strength is None or strength.priority > most:
                return False
            term, most = term.args[0], strength.left
        return isinstance(term, (int, float, Fraction))


class _Pending(NamedTuple):
    term: Term
    most: int
    operand: bool = False


_APART = " ("
"""Keeps a prefix operator and the parenthesis after it from being a call."""


class _Alone(str):
    """Be an operator that is an argument."""

    __slots__ = ()


class _Text:
    """Put tokens side by side, with spaces only where they would be read as one, or as a call."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._last = ""
        self._apart = False
        self._was_apart = False

    def add(self, piece: str) -> None:
        if piece is _APART:
            self._apart = True
            return
        if self._was_apart and type(piece) is _Alone:
            # After - (a), 0.23 waits for an operand of it.
            piece = f"({piece})"
        last, first = self._last, piece[0]
        words = _in_word(last) and (_in_word(first) or first == "'")
        self._was_apart |= self._apart and first == "("
        if words or (last in _SYMBOLS and first in _SYMBOLS) or (self._apart and first == "("):
            self._pieces.append(" ")
        self._pieces.append(piece)
        self._last = piece[-1]
        self._apart = False

    def whole(self) -> str:
        return "".join(self._pieces)


def _list(term: Compound | list[Term]) -> list[str | _Pending]:
    items: list[Term] = []
    rest: Term = term
    while isinstance(rest, Compound) and rest.indicator == "./2":
        items.append(rest.args[0])
        rest = rest.args[1]
    if isinstance(rest, list):
        return ["[", *_separated([*items, *rest]), "]"]
    return ["[", *_separated(items), "|", _Pending(rest, _ARGUMENT), "]"]


def _separated(terms: Iterable[Term]) -> list[str | _Pending]:
    parts: list[str | _Pending] = []
    for term in terms:
        parts += [",", _Pending(term, _ARGUMENT)]
    return parts[1:]


def _atom(name: str) -> str:
    """Write an atom, quoted where it must be."""
    # The interpreter takes /* for a comment, and a period before a space for the end.
    bare = name in _SOLO or name == "=.." or (name and _SYMBOLS.issuperset(name) and "." not in name)
    return name if bare and not name.startswith("/*") else to_prolog(Atom(name))


def _in_word(character: str) -> bool:
    return character.isalnum() or character == "_"
