"""Use `AsyncPrologPool` by the calls of `PrologPool`, so that one test body proves both."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from replicate_trealla import Answer, AsyncPrologPool, AsyncQuery

__all__ = ["BlockingPool"]


class _Loop:
    """Run an event loop in a thread, shared by all tests."""

    _loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def run(cls, coroutine: Coroutine[Any, Any, Any]) -> Any:
        if cls._loop is None:
            cls._loop = asyncio.new_event_loop()
            threading.Thread(target=cls._loop.run_forever, daemon=True).start()
        return asyncio.run_coroutine_threadsafe(coroutine, cls._loop).result(120)


class _BlockingQuery(Iterator[Answer]):
    def __init__(self, query: AsyncQuery) -> None:
        self.query = query

    def __next__(self) -> Answer:
        async def following() -> Answer | None:
            async for answer in self.query:
                return answer
            return None

        answer: Answer | None = _Loop.run(following())
        if answer is None:
            raise StopIteration
        return answer

    def all(self, **options: Any) -> Any:
        return _Loop.run(self.query.all(**options))

    def first(self) -> Any:
        return _Loop.run(self.query.first())

    def close(self) -> None:
        _Loop.run(self.query.aclose())

    def __enter__(self) -> _BlockingQuery:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.query, name)


_AWAITED = {
    "query_all", "query_once", "execute", "consult_text", "consult", "assertz", "asserta", "retract", "retractall", "register", "close"
}  # fmt: skip


class _Blocking:
    """Wait for what is to be awaited."""

    def __init__(self, awaited: Any) -> None:
        self._awaited = awaited

    def query(self, goal: str, **options: Any) -> _BlockingQuery:
        async def ask() -> AsyncQuery:
            query: AsyncQuery = self._awaited.query(goal, **options)
            if not options.get("stream"):
                # As the other does, compute the answers now.
                query._messages = iter(await query._collect())
            return query

        return _BlockingQuery(_Loop.run(ask()))

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._awaited, name)
        if name in _AWAITED:
            return lambda *args, **options: _Loop.run(value(*args, **options))
        return value


class BlockingPool(_Blocking):
    """Be an `AsyncPrologPool` that blocks, each call in a task of its own."""

    def __init__(self, opening: AsyncPrologPool | None = None, **options: Any) -> None:
        async def opened() -> AsyncPrologPool:
            return await (opening or AsyncPrologPool(**options))

        super().__init__(_Loop.run(opened()))

    @contextmanager
    def _transaction(self, manager: Any) -> Iterator[_Blocking]:
        async def enter() -> Any:
            return await manager.__aenter__()

        async def leave(*exc_info: Any) -> Any:
            return await manager.__aexit__(*exc_info)

        interpreter = _Blocking(_Loop.run(enter()))
        try:
            yield interpreter
        except BaseException as error:
            _Loop.run(leave(type(error), error, error.__traceback__))
            raise
        _Loop.run(leave(None, None, None))

    def reading(self, **options: Any) -> Any:
        return self._transaction(self._awaited.reading(**options))

    def writing(self, **options: Any) -> Any:
        return self._transaction(self._awaited.writing(**options))

    def transaction(self, **options: Any) -> Any:
        return self._transaction(self._awaited.transaction(**options))

    def branch(self, **options: Any) -> BlockingPool:
        return BlockingPool(self._awaited.branch(**options))

    def __enter__(self) -> BlockingPool:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._awaited)
