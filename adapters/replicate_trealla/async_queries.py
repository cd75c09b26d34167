"""The answers to a goal for asyncio: `AsyncQuery` and its streams, as `queries` has them for threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from replicate.errors import ConcurrentUseError
from replicate_trealla.answers import Answer, is_answer
from replicate_trealla.errors import InterpreterError
from replicate_trealla.queries import Following, Step, Taking, followed
from replicate_trealla.steps import AbandonCalls, NextMessage, StartStream, StopStream

if TYPE_CHECKING:
    from replicate.pinned import AsyncPinnedRead
    from replicate_trealla.session import Message

__all__ = ["AsyncPinnedSteps", "AsyncQuery", "AsyncStream", "AsyncTransactionSteps", "run_or_discard_async"]

_FEW = 200
"""Answers that an event loop may make terms of, some microseconds each."""


async def run_or_discard_async(guest: Any, step: Step) -> Any:
    """Do `run_or_discard` on a guest that's awaited."""
    try:
        return await guest.run(step)
    except InterpreterError:
        guest.discard()
        raise


class AsyncQuery(Taking, AsyncIterator[Answer]):
    """Be the answers to a goal, for ``async for``; to be closed early by `aclose` or ``async with``, or by letting it go.

    Nothing happens before the first answer is asked for. `all` and `first` take the rest of the answers.
    """

    def __init__(self, goal: str, collect: Callable[[], Awaitable[list[Message]]]) -> None:
        super().__init__(goal)
        self._collect = collect
        self._messages: Iterator[Message] | None = None

    def __aiter__(self) -> AsyncQuery:
        return self

    async def _collected(self) -> Iterator[Message]:
        if self._messages is None:
            self._messages = iter(())
            self._messages = iter(await self._collect())
        return self._messages

    async def __anext__(self) -> Answer:
        message = next(await self._collected(), None)
        answer = None if message is None else self._answer(message)
        if answer is None:
            raise StopAsyncIteration
        return answer

    async def all(self, *, limit: int | None = None) -> list[Answer]:
        """Give all answers that are left, or the next `limit` ones, and close."""
        async with self:
            messages = [*islice(await self._collected(), limit)]
            if len(messages) <= _FEW:
                return self._answers(messages)
            # Making terms of many would keep the event loop from everything else.
            return await asyncio.get_running_loop().run_in_executor(None, self._answers, messages)

    def _answers(self, messages: list[Message]) -> list[Answer]:
        return [answer for message in messages if (answer := self._answer(message)) is not None]

    async def first(self) -> Answer | None:
        """Give the next answer, or None if there's none, and close."""
        return next(iter(await self.all(limit=1)), None)

    async def aclose(self) -> None:
        """Give no more answers, and free what a stream holds. Closing twice is fine."""
        self._messages = iter(())

    async def __aenter__(self) -> AsyncQuery:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()


class AsyncSteps(Protocol):
    """Be `Steps` to be awaited."""

    async def run(self, step: Step) -> Any:
        """Run a step beside the guest."""

    async def following(self, number: int, goal: str) -> Message | None:
        """Give the next message of the stream of that number, and see to what it has changed."""

    async def close(self, number: int, *, ended: bool) -> None:
        """See to the end of the stream of that number; `ended` if it has come to it by itself."""


class AsyncPinnedSteps:
    """Be `PinnedSteps` to be awaited."""

    def __init__(self, read: AsyncPinnedRead, *, refuses: bool) -> None:
        self._read = read
        self._refuses = refuses

    async def run(self, step: Step) -> Any:
        return await self._read.run(lambda guest: guest.run(step))

    async def following(self, number: int, goal: str) -> Message | None:
        return await self._read.run(Following(number, goal, self._refuses))

    async def close(self, number: int, *, ended: bool) -> None:
        try:
            # A step that was cancelled, and is still running, sees to it by itself.
            if not ended and self._read.is_open and not self._read.is_running:
                await self.run(AbandonCalls())
        finally:
            self._read.close(clean=ended)


class AsyncTransactionSteps:
    """Be `TransactionSteps` to be awaited."""

    def __init__(self, guest: Any, *, refuses: bool) -> None:
        self._guest = guest
        self._refuses = refuses

    async def run(self, step: Step) -> Any:
        return await run_or_discard_async(self._guest, step)

    async def following(self, number: int, goal: str) -> Message | None:
        told = await run_or_discard_async(self._guest, NextMessage(number))
        return followed(self._guest, told, goal, refuses=self._refuses)

    async def close(self, number: int, *, ended: bool) -> None:
        if not ended and self._guest.is_alive:
            self._guest.discard()
            await self._guest.run(StopStream(number))


class AsyncStream(AsyncQuery):
    """Be an `AsyncQuery` whose answers are computed one by one."""

    def __init__(
        self, goal: str, request: bytes, limit: int | None, begin: Callable[[], Awaitable[AsyncSteps]]
    ) -> None:
        Taking.__init__(self, goal)
        self._request = request
        self._left = limit
        self._begin = begin
        self._steps: AsyncSteps | None = None
        self._number = 0
        self._closed = False
        self._running = False

    async def __anext__(self) -> Answer:
        if self._left == 0:
            await self.aclose()
        if self._closed:
            raise StopAsyncIteration
        if self._running:
            raise ConcurrentUseError(f"the next answer to {self.goal:.60} is being computed already, for another task")
        self._running = True
        try:
            if self._steps is None:
                self._steps = await self._begin()
                self._number = await self._steps.run(StartStream(self._request))
            message = await self._steps.following(self._number, self.goal)
        except BaseException:
            self._running = False
            await self.aclose()
            raise
        self._running = False
        if message is None or not is_answer(message[0]):
            await self._end(ended=True)
        answer = None if message is None else self._answer(message)
        if answer is None:
            raise StopAsyncIteration
        if self._left is not None:
            self._left -= 1
            if not self._left:
                await self.aclose()
        return answer

    async def all(self, *, limit: int | None = None) -> list[Answer]:
        answers: list[Answer] = []
        async with self:
            while limit is None or len(answers) < limit:
                try:
                    answers.append(await self.__anext__())
                except StopAsyncIteration:
                    break
        return answers

    async def aclose(self) -> None:
        await self._end(ended=False)

    async def _end(self, *, ended: bool) -> None:
        if not self._closed:
            self._closed = True
            if self._steps is not None:
                await self._steps.close(self._number, ended=ended)
