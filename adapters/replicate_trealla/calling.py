"""The host's side of calls to predicates that are Python functions: where the functions are, and in a worker process.

Functions stay in the process that opened the pool, as host functions do: `DistantCalls` asks it, `answer_worker` answers there.
"""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

from replicate_trealla.answers import decode_terms
from replicate_trealla.errors import PrologError
from replicate_trealla.predicates import (
    Predicate,
    encode_ball,
    encode_exception,
    encode_result,
    find_predicate,
    iterates,
)
from replicate_trealla.terms import Term

if TYPE_CHECKING:
    from replicate.handles import Guest
    from replicate_trealla.session import Message

__all__ = ["Calls", "DistantCalls", "Raised", "answer_worker", "calls_for", "forget_calls", "trace_last"]

_KEY = "trealla-calls"
"""Where, in ``guest.local``, the calls are that are answered for a worker, and for which handle."""
_REQUEST, _CLOSE_ALL = "call", "close"
_NO_CALLS: tuple[Any, Any] = (None, None)
_NEXT, _CLOSE = ord("4"), ord("5")
_exceptions = itertools.count(secrets.randbits(48))
"""Numbers for exceptions: what a program has kept of an earlier one mustn't be taken for another, in whatever process."""
_FAILS = object()
# An exception's number in what was thrown, and whether it's the exception itself: error(python_error(_, _), '$python'(N)).
_NUMBER = re.compile(rb'\[5,1,"\$python"\],(\d+)')
_ITSELF = re.compile(rb'\[2,\[5,2,"error"\],\[5,2,"python_error"\],.*\[5,1,"\$python"\],\d+\]', re.DOTALL)


class Raised(bytes):
    """Be a message that holds what a goal threw, and the exception of a Python function that it comes from."""

    error: Exception
    is_itself: bool
    """Whether it's the exception as it was thrown, not a term made of it."""


class Calls:
    """Call Python functions for a guest, and keep what they go on with: iterators, and exceptions on their way out."""

    __slots__ = ("_iterators", "_numbers", "_raised", "stream")

    def __init__(self) -> None:
        self.stream = 0
        """Which of the session's streams is running; 0 for none of them."""
        self._iterators: dict[int, tuple[Predicate, list[Term], Iterator[Any], int]] = {}
        self._raised: dict[int, Exception] = {}
        self._numbers = 0

    def answer(self, data: bytes) -> bytes | None:
        """Do what a message asks for, and give the reply; None is for failing.

        Exceptions become replies, but for those that aren't errors (`KeyboardInterrupt`): they end the guest's call.
        """
        try:
            number, *arguments = decode_terms(data)
            if data[1] == _NEXT:
                return self._next(number)
            if data[1] == _CLOSE:
                self._close_one(number)
                return b""
            predicate = find_predicate(number)
            result = predicate.function(*arguments)
            if result is None or result is True:
                return b""
            if iterates(result):
                self._numbers += 1
                self._iterators[self._numbers] = (predicate, arguments, result, self.stream)
                return b"n%d" % self._numbers
            return encode_result(predicate, arguments, result)
        except PrologError as error:
            if error.ball is None:
                return self._throw(error)
            try:
                return encode_ball(error.ball)
            except Exception as unfit:
                return self._throw(unfit)
        except Exception as error:
            return self._throw(error)

    def _next(self, number: int) -> bytes | None:
        predicate, arguments, iterator, _ = self._iterators[number]
        while (result := next(iterator, _FAILS)) is not _FAILS:
            reply = encode_result(predicate, arguments, result)
            if reply is not None:
                return reply
        return None

    def _throw(self, error: Exception) -> bytes:
        if isinstance(error, (StopIteration, StopAsyncIteration)):
            # As in generators: it would be taken for the end of the answers.
            wrapped = RuntimeError(f"a predicate raised {type(error).__name__}")
            wrapped.__cause__ = error
            error = wrapped
        number = next(_exceptions)
        self._raised[number] = error
        return encode_exception(error, number)

    def forget_raised(self) -> None:
        """Forget the exceptions: the goal that they're of has ended."""
        self._raised.clear()

    def trace(self, data: bytes) -> bytes:
        """Give a message that holds what a goal threw, with the exception that it comes from, if any."""
        found = _NUMBER.search(data) if self._raised else None
        error = self._raised.get(int(found[1])) if found is not None else None
        if error is None:
            return data
        raised = Raised(data)
        raised.error = error
        raised.is_itself = _ITSELF.fullmatch(data) is not None
        return raised

    def close(self, stream: int | None = None) -> None:
        """Close the iterators that are left, of one stream or all; raise what the last of them raises that does."""
        with ExitStack() as closing:
            for number, (_, _, _, its_stream) in self._iterators.items():
                if stream in (None, its_stream):
                    closing.callback(self._close_one, number)

    def _close_one(self, number: int) -> None:
        iterator = self._iterators.pop(number)[2]
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


# -- in worker processes -----------------------------------------------------------------------------------------------


class DistantCalls:
    """Be `Calls` in a worker process, for functions that are where the pool is."""

    __slots__ = ("_ask", "_iterates", "stream")

    def __init__(self, ask: Callable[..., Any]) -> None:
        self.stream = 0
        self._ask = ask
        self._iterates = False

    def answer(self, data: bytes) -> bytes | None:
        """Have a message answered."""
        reply: bytes | None = self._ask(_REQUEST, self.stream, data)
        if reply is not None and reply.startswith(b"n"):
            self._iterates = True
        return reply

    def trace(self, data: bytes) -> bytes:
        """Give a message as it is: the exceptions are where the pool is, which does this."""
        return data

    def close(self, stream: int | None = None) -> None:
        """Have the iterators closed that are left, of one stream or all."""
        if self._iterates:
            self._ask(_CLOSE_ALL, stream)


def calls_for(guest: Guest) -> Calls | DistantCalls:
    """Give what answers the calls of a guest's predicates."""
    ask = guest.ask_pool
    return Calls() if ask is None else DistantCalls(ask)


def answer_worker(guest: Guest, what: str, stream: int | None, data: bytes = b"") -> bytes | None:
    """Answer the `DistantCalls` beside a guest that is in a worker process."""
    known = guest.local.get(_KEY)
    if known is None or known[0] is not guest:
        forget_calls(guest)
        known = guest.local[_KEY] = (guest, Calls())
    calls: Calls = known[1]
    if what == _CLOSE_ALL:
        calls.close(stream)
        return None
    calls.stream = stream or 0
    return calls.answer(data)


def forget_calls(guest: Guest) -> None:
    """Close what was left open by calls that were answered for a worker; a transaction is over."""
    known = guest.local.pop(_KEY, None)
    if known is not None:
        with suppress(Exception):
            known[1].close()


def trace_last(guest: Guest, messages: list[Message]) -> None:
    """Do `Calls.trace` with the last of the messages that a worker gives for a goal, and forget what the goal has raised."""
    handle, calls = guest.local.get(_KEY, _NO_CALLS)
    if calls is not None:
        if handle.is_alive and messages and messages[-1][0][1:2] == b"2":
            data, out, err = messages[-1]
            messages[-1] = (calls.trace(data), out, err)
        calls.forget_raised()
