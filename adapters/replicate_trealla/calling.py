"""The host's side of calls to predicates that are Python functions, for one session."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

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

__all__ = ["Calls", "Raised"]

_NEXT, _CLOSE = ord("4"), ord("5")
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
        self._numbers += 1
        self._raised[self._numbers] = error
        return encode_exception(error, self._numbers)

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
