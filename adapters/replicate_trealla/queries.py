"""The answers to a goal, as iterators: collected at once, or streamed, computed when they're asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import attrs

from replicate.errors import ConcurrentUseError, NestedTransactionError
from replicate_trealla.answers import Answer, decode_answer, is_answer, raise_ball
from replicate_trealla.calling import trace_last
from replicate_trealla.errors import InterpreterError, MutationError
from replicate_trealla.steps import AbandonCalls, NextMessage, StartStream, StopStream
from replicate_trealla.watch import CHANGED_FACTS

if TYPE_CHECKING:
    from replicate.handles import Guest
    from replicate.pinned import PinnedRead
    from replicate_trealla.session import Message

__all__ = [
    "Following",
    "PinnedSteps",
    "Query",
    "Step",
    "Steps",
    "Stream",
    "Taking",
    "TransactionSteps",
    "first",
    "followed",
    "note_change",
    "run_or_discard",
    "settled",
]

T = TypeVar("T")
Step = Callable[["Guest"], Any]


class Taking:
    """Make answers of messages, and keep what was written after the last of them."""

    stdout: str = ""
    """What the goal wrote after its last answer, once that is known: up to its failing or throwing."""
    stderr: str = ""

    def __init__(self, goal: str) -> None:
        self.goal = goal
        """What was asked."""

    def _answer(self, message: Message) -> Answer | None:
        """Give the answer that a message is, or None for the end; raise what the goal threw."""
        data, out, err = message
        if is_answer(data):
            return decode_answer(data, out, err)
        self.stdout, self.stderr = out.decode("utf-8", "replace"), err.decode("utf-8", "replace")
        if data[1:2] == b"2":
            raise_ball(data, self.goal)
        return None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.goal:.60}>"


class Query(Taking, Iterator[Answer]):
    """Be the answers to a goal: an iterator, to be closed early by `close` or ``with``, or by letting it go.

    `all` and `first` take the rest of them. One that isn't a stream holds nothing: its answers have been computed.
    """

    def __init__(self, goal: str, messages: Iterator[Message]) -> None:
        super().__init__(goal)
        self._messages = messages

    def __iter__(self) -> Query:
        return self

    def __next__(self) -> Answer:
        answer = self._answer(next(self._messages))
        if answer is None:
            raise StopIteration
        return answer

    def all(self, *, limit: int | None = None) -> list[Answer]:
        """Give all answers that are left, or the next `limit` ones, and close."""
        with self:
            return list(islice(self, limit))

    def first(self) -> Answer | None:
        """Give the next answer, or None if there's none, and close."""
        with self:
            return next(self, None)

    def close(self) -> None:
        """Give no more answers, and free what a stream holds. Closing twice is fine."""
        self._messages = iter(())

    def __enter__(self) -> Query:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def run_or_discard(guest: Any, step: Callable[[Any], T]) -> T:
    """Run a step beside a guest, in a transaction that may go on when the interpreter ends in it."""
    try:
        result: T = guest.run(step)
    except InterpreterError:
        guest.discard()
        raise
    return result


def note_change(guest: Any, changed: int, goal: str, *, refuses: bool) -> None:
    """Have a replica reset that a goal has changed; with `refuses`, raise `MutationError` if it was facts that it changed."""
    guest.discard()
    if refuses and changed & CHANGED_FACTS:
        raise MutationError(
            f"this goal changes facts, flags or operators, and a read can't: {goal:.200}; use execute or writing, or "
            "on_mutation='reset' to have such changes forgotten"
        )


def settled(guest: Any, told: tuple[list[Message], int], goal: str, *, refuses: bool) -> list[Message]:
    """Give a goal's messages of what `Collect` tells, having seen to exceptions of predicates and to what was changed."""
    messages, changed = told
    trace_last(guest, messages)
    if changed:
        note_change(guest, changed, goal, refuses=refuses)
    return messages


def followed(guest: Any, told: tuple[Message | None, int], goal: str, *, refuses: bool) -> Message | None:
    """Give a stream's message of what `NextMessage` tells, as `settled` does."""
    message, changed = told
    messages = settled(guest, ([] if message is None else [message], changed), goal, refuses=refuses)
    return messages[0] if messages else None


def first(messages: list[Message], goal: str) -> Answer | None:
    """Give the first answer of collected messages, or None; raise what the goal threw."""
    for data, out, err in messages:
        if is_answer(data):
            return decode_answer(data, out, err)
        if data[1:2] == b"2":
            raise_ball(data, goal)
    return None


# -- streams -----------------------------------------------------------------------------------------------------------


@attrs.frozen
class Following:
    """Take the next message of a stream, and see to what it has changed; runs where the pool is."""

    number: int
    goal: str
    refuses: bool

    def __call__(self, guest: Guest) -> Message | None:
        return followed(guest, run_or_discard(guest, NextMessage(self.number)), self.goal, refuses=self.refuses)


class Steps(Protocol):
    """Run the steps of a stream, and see to its end."""

    def run(self, step: Step) -> Any:
        """Run a step beside the guest."""

    def following(self, number: int, goal: str) -> Message | None:
        """Give the next message of the stream of that number, and see to what it has changed."""

    def close(self, number: int, *, ended: bool) -> None:
        """See to the end of the stream of that number; `ended` if it has come to it by itself."""


class PinnedSteps:
    """Run a stream on a read of its own, which ends with it."""

    def __init__(self, read: PinnedRead, *, refuses: bool) -> None:
        self._read = read
        self._refuses = refuses

    def run(self, step: Step) -> Any:
        return self._read.run(lambda guest: guest.run(step))

    def following(self, number: int, goal: str) -> Message | None:
        return self._read.run(Following(number, goal, self._refuses))

    def close(self, number: int, *, ended: bool) -> None:
        # The replica is reset, which is cheaper than stopping a query.
        try:
            if not ended and self._read.is_open:
                self.run(AbandonCalls())
        finally:
            self._read.close(clean=ended)


class TransactionSteps:
    """Run a stream inside a transaction, which goes on after it."""

    def __init__(self, guest: Guest, left: list[int], *, refuses: bool) -> None:
        self._guest = guest
        self._refuses = refuses
        self.left = left
        """The numbers of streams that nobody holds any more."""

    def run(self, step: Step) -> Any:
        return run_or_discard(self._guest, step)

    def following(self, number: int, goal: str) -> Message | None:
        return Following(number, goal, self._refuses)(self._guest)

    def close(self, number: int, *, ended: bool) -> None:
        if not ended and self._guest.is_alive:
            # What cleans up after the query may change something.
            self._guest.discard()
            try:
                self._guest.run(StopStream(number))
            except NestedTransactionError:
                self.left.append(number)  # a predicate closes it: it's stopped when the goal has ended


class Stream(Query):
    """Be a query whose answers are computed one by one."""

    def __init__(self, goal: str, request: bytes, limit: int | None, begin: Callable[[], Steps]) -> None:
        super().__init__(goal, iter(()))
        self._request = request
        self._left = limit
        self._begin = begin
        self._steps: Steps | None = None
        self._number = 0
        self._closed = False
        self._running = threading.Lock()

    def __next__(self) -> Answer:
        if self._left == 0:
            self.close()
        if self._closed:
            raise StopIteration
        if not self._running.acquire(blocking=False):
            raise ConcurrentUseError(f"the next answer to {self.goal:.60} is being computed already, by another thread")
        try:
            if self._steps is None:
                self._steps = self._begin()
                self._number = self._steps.run(StartStream(self._request))
            message = self._steps.following(self._number, self.goal)
        except BaseException:
            self.close()
            raise
        finally:
            self._running.release()
        if message is None or not is_answer(message[0]):
            self._end(ended=True)
        answer = None if message is None else self._answer(message)
        if answer is None:
            raise StopIteration
        if self._left is not None:
            self._left -= 1
            if not self._left:
                self.close()
        return answer

    def close(self) -> None:
        self._end(ended=False)

    def _end(self, *, ended: bool) -> None:
        if not self._closed:
            self._closed = True
            if self._steps is not None:
                self._steps.close(self._number, ended=ended)

    def __del__(self) -> None:
        # Not the guest's call that would stop the query: this may happen at any moment, inside another call for instance.
        steps = getattr(self, "_steps", None)
        if isinstance(steps, TransactionSteps) and not self._closed:
            steps.left.append(self._number)
