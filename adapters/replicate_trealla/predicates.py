"""Predicates that are Python functions: what they're given, and what becomes of what they return.

A clause of the program calls `driver.pl`, which sends the arguments as tokens; the reply is text that begins with a letter,
so that the usual values need no reading of a term in the guest (`encode_result` writes it, ``driver.pl`` lists the letters).
"""

from __future__ import annotations

import inspect
import secrets
import weakref
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeVar

import attrs

from replicate.errors import AdapterError, ArgumentRangeError, ArgumentTypeError
from replicate_trealla.errors import PrologError, TermError
from replicate_trealla.requests import with_rationals
from replicate_trealla.terms import Atom, Compound, Term, Variable, write_term

__all__ = [
    "Goal",
    "Held",
    "Predicate",
    "Predicates",
    "Python",
    "Replacing",
    "encode_ball",
    "encode_exception",
    "encode_result",
    "find_predicate",
    "iterates",
    "make_predicate",
    "registering",
    "split_indicator",
]

Python = Callable[..., Any]
"""A function that is a predicate."""
P = TypeVar("P", bound=Python)
Predicates = Mapping[str, Python]
"""Functions by ``"name/arity"``."""
_MAX_ARITY = 64
_EXACT = 9
"""Positions that can be told by one digit."""


@attrs.frozen
class Goal:
    """Be what a predicate returns for a goal to be called in its stead: ``Goal(Compound("member", (x, [1, 2])))``.

    Variables that the predicate was given are the same ones in the goal, which runs in module ``user``.
    """

    term: Term


@attrs.frozen
class Replacing:
    """Be a function that may take the place of a predicate in one of Trealla's own libraries."""

    function: Python

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)


class Predicate(NamedTuple):
    """Be a registered function; in each process, its number is its own."""

    name: str
    arity: int
    function: Python
    positions: Mapping[str, int]
    """The parameters by name."""

    @property
    def indicator(self) -> str:
        """Name and arity, as in ``"double/2"``."""
        return f"{self.name}/{self.arity}"


def registering(indicator: str | None, register: Callable[[str | None, Python], object]) -> Callable[[P], P]:
    """Make a decorator that registers a function by this indicator; raise `ArgumentTypeError` for one that wasn't called."""
    if callable(indicator):
        raise ArgumentTypeError("call the decorator: @predicate('name/arity'), or @predicate() for the function's own")

    def decorate(function: P) -> P:
        register(indicator, function)
        return function

    return decorate


class Held:
    """Be held by those whose interpreters call the predicate."""

    __slots__ = ("__weakref__", "number", "predicate", "replaces")

    def __init__(self, predicate: Predicate, *, replaces: bool) -> None:
        self.predicate = predicate
        self.replaces = replaces
        # Not counted: state that comes from another process, in a snapshot, mustn't call something else here.
        self.number = secrets.randbits(56)

    def __reduce__(self) -> tuple[Any, ...]:
        # In a worker process it's only to be named: the function is called where the pool is.
        return _named, (self.predicate.name, self.predicate.arity, self.number, self.replaces)


def _named(name: str, arity: int, number: int, replaces: bool) -> Held:
    held = Held(Predicate(name, arity, _elsewhere, {}), replaces=replaces)
    held.number = number
    return held


def _elsewhere(*_: object) -> None:
    raise AdapterError("this predicate is a function of another process")


_registered: weakref.WeakValueDictionary[int, Held] = weakref.WeakValueDictionary()


def make_predicate(indicator: str | None, function: Python) -> Held:
    """Check a function, and give what's to be held as long as a program may call it.

    Raises `ArgumentTypeError` for what can't be one, `ArgumentRangeError` for a wrong indicator.
    """
    replaces = isinstance(function, Replacing)
    if isinstance(function, Replacing):
        function = function.function
    if not callable(function):
        raise ArgumentTypeError(f"{function!r:.200} can't be called: give a function")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise ArgumentTypeError(
            f"{function!r:.200} is to be awaited, and Prolog can't wait for it: give a plain function or a generator"
        )
    try:
        signature: inspect.Signature | None = inspect.signature(function)
    except (TypeError, ValueError):
        signature = None
    parameters = [] if signature is None else list(signature.parameters.values())
    positional = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    if indicator is None:
        if signature is None or any(each.kind is each.VAR_POSITIONAL for each in parameters):
            raise ArgumentTypeError(f"the arity of {function!r:.200} can't be seen: say 'name/arity'")
        name, arity = getattr(function, "__name__", ""), len(positional)
        if not name.isidentifier():
            raise ArgumentTypeError(f"{function!r:.200} has no name: say 'name/arity'")
    else:
        name, arity = split_indicator(indicator)
    if signature is not None:
        try:
            signature.bind(*range(arity))
        except TypeError as error:
            raise ArgumentTypeError(
                f"{function!r:.200} can't be called with the {arity} argument(s) of {name}/{arity}: {error}"
            ) from error
    held = Held(
        Predicate(name, arity, function, {each.name: at for at, each in enumerate(positional[:arity])}),
        replaces=replaces,
    )
    _registered[held.number] = held
    return held


def split_indicator(indicator: str) -> tuple[str, int]:
    """Give the name and the arity of ``"name/arity"``; raise `ArgumentRangeError` for anything else."""
    name, slash, arity = indicator.rpartition("/") if isinstance(indicator, str) else ("", "", "")
    if not (name and slash and arity.isascii() and arity.isdigit() and int(arity) <= _MAX_ARITY) or "\0" in name:
        raise ArgumentRangeError(
            f"{indicator!r} isn't a predicate: give 'name/arity', as in 'double/2', with an arity of at most {_MAX_ARITY}"
        )
    return name, int(arity)


def find_predicate(number: int) -> Predicate:
    """Give the predicate of that number; raise `PrologError` if this process has none."""
    held = _registered.get(number)
    if held is None:
        kind = Compound("existence_error", (Atom("host_predicate"), number))
        raise PrologError(
            "this program calls a Python function that isn't there any more",
            ball=Compound("error", (kind, Atom("python"))),
        )
    return held.predicate


# -- replies -----------------------------------------------------------------------------------------------------------


def encode_result(predicate: Predicate, arguments: list[Term], result: Any) -> bytes | None:
    """Write what a function has returned; None is for failing.

    Raises `TermError` for what is neither a term nor one of the other things that may be returned.
    """
    if result is None or result is True:
        return b""
    if result is False:
        return None
    if isinstance(result, Goal):
        return b"g" + _written(result.term)
    if isinstance(result, Mapping):
        return _encode_arguments(
            predicate, {_position(predicate, arguments, key): value for key, value in result.items()}
        )
    if isinstance(result, tuple):
        if len(result) != predicate.arity:
            raise TermError(
                f"{predicate.indicator} returned a tuple of {len(result)}: give a value for each argument, ... for those to "
                "be left"
            )
        return _encode_arguments(predicate, {at: value for at, value in enumerate(result) if value is not ...})
    if not predicate.arity:
        raise TermError(f"{predicate.indicator} returned {result!r:.80}, and has no argument to unify it with")
    return _encode_arguments(predicate, {predicate.arity - 1: result})


def _position(predicate: Predicate, arguments: list[Term], key: object) -> int:
    """Give the argument that a key stands for: a parameter's name, or a variable that the function was given."""
    at = predicate.positions.get(key) if isinstance(key, str) else None
    if at is None and isinstance(key, Variable) and key in arguments:
        at = arguments.index(key)
    if at is None:
        raise TermError(
            f"{predicate.indicator} returned a mapping with the key {key!r}: keys are its parameters' names, "
            f"{', '.join(predicate.positions) or 'of which it has none'}, or variables among its arguments"
        )
    return at


def _encode_arguments(predicate: Predicate, values: dict[int, Any]) -> bytes:
    if len(values) == 1:
        ((at, value),) = values.items()
        if at < _EXACT:
            kind = type(value)
            if kind is int and value.bit_length() < 10_000:
                return b"i%d%d" % (at + 1, value)
            if kind is str and "\0" not in value and value:
                return f"s{at + 1}{value}".encode()
            if kind is Atom and "\0" not in value.name and value.name:
                return f"a{at + 1}{value.name}".encode()
    return b"t" + _written([values.get(at, _ANY) for at in range(predicate.arity)])


_ANY = Variable("_")


def _written(term: Term) -> bytes:
    """Write a term to be read, with what's to be computed before: Prolog has no notation for rationals."""
    computed, written = with_rationals(partial(write_term, term))
    return f"host([{','.join(computed)}],{written})\n.".encode()


def encode_ball(ball: Term) -> bytes:
    """Write a term to be thrown."""
    return b"e" + _written(ball)


def encode_exception(error: Exception, number: int) -> bytes:
    """Write an exception as a term to be thrown, which knows its number."""
    try:
        text = str(error).replace("\0", "?").encode("utf-8", "replace").decode()
    except Exception:
        text = "its text can't be had"
    kind = Compound("python_error", (Atom(type(error).__name__), text))
    return encode_ball(Compound("error", (kind, Compound("$python", (number,)))))


def iterates(result: object) -> bool:
    """Tell whether a function has returned solutions, to be taken one by one."""
    return isinstance(result, Iterator)
