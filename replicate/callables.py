"""What a transaction may run: a function that does its work when it's called, and not later.

A coroutine function or a generator function does nothing when it's called; what it returns would run, if ever, when the
transaction has ended. A write would commit nothing, in silence.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, NoReturn, TypeVar

from replicate.errors import ArgumentTypeError
from replicate.handles import Guest

__all__ = ["LATER", "UNFINISHED", "check_callable", "does_nothing", "refuse_unfinished", "run_whole", "runnable"]

T = TypeVar("T")
UNFINISHED: frozenset[type] = frozenset({CoroutineType, GeneratorType, AsyncGeneratorType})
"""The types of what is still to run. Looked at by identity: that costs a read or write next to nothing."""
LATER = inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
"""The flags of functions that do nothing when they're called."""
_KINDS = (
    (inspect.CO_COROUTINE, "a coroutine function (async def)"),
    (inspect.CO_ASYNC_GENERATOR, "an async generator function"),
    (inspect.CO_GENERATOR, "a generator function (it has a yield)"),
)
_INSTEAD = (
    "give a plain function, which an AsyncPool runs whole in a worker thread; to await between the guest's calls use "
    "'async with pool.reading() as guest' or 'pool.writing()', to hand out many values return a list"
)


def runnable(fn: Callable[[Guest], T], *, in_worker: bool) -> Callable[[Guest], T]:
    """Give what a transaction calls for `fn`; raise `ArgumentTypeError` for what wouldn't do its work then."""
    code = getattr(fn, "__code__", None)
    if code is None or code.co_flags & LATER:
        check_callable(fn, what="what a transaction runs")
    return partial(Guest.run, fn=fn) if in_worker else fn


def check_callable(fn: Any, *, what: str) -> None:
    """Raise `ArgumentTypeError` for what can't be called, or does nothing when it is."""
    if not callable(fn):
        raise ArgumentTypeError(f"{what} is {fn!r:.80}; give a function, such as: lambda guest: guest.call('get', 1)")
    kind = does_nothing(fn)
    if kind is not None:
        raise ArgumentTypeError(f"{what} is {_name(fn)}, {kind}, which does nothing when it's called: {_INSTEAD}")


def does_nothing(fn: Any) -> str | None:
    """Name what kind of function `fn` is, if it's one that does nothing when it's called."""
    code = getattr(fn, "__code__", None)
    if code is None:
        return None
    flags = code.co_flags
    return next((kind for flag, kind in _KINDS if flags & flag), None)


def run_whole(fn: Callable[[Guest], T], guest: Guest) -> T:
    """Give ``fn(guest)``; raise `ArgumentTypeError` for a result that is still to run, having closed it."""
    result = fn(guest)
    if type(result) in UNFINISHED:
        refuse_unfinished(result, fn)
    return result


def refuse_unfinished(result: Any, fn: Callable[..., Any]) -> NoReturn:
    """Close a coroutine or generator that a transaction's function has returned, and raise `ArgumentTypeError`."""
    close = getattr(result, "close", None)
    if close is not None:
        close()
    kind = type(result).__name__.replace("_", " ")
    raise ArgumentTypeError(
        f"{_name(fn)} returned the {kind} {result.__qualname__!r}, whose work would be done after the transaction, if "
        f"ever; what was done is undone: {_INSTEAD}"
    )


def _name(fn: Any) -> str:
    while isinstance(fn, partial):
        fn = fn.keywords.get("fn", fn.func)
    return repr(getattr(fn, "__qualname__", None) or f"{fn!r:.80}")
