"""Prolog for asyncio: the pool of replicas, with methods to await."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from replicate.adapter import ResetRule
from replicate.aio import AsyncGuest, AsyncPool
from replicate.configuration import Workers
from replicate.errors import PoolError
from replicate.interfaces import Engine
from replicate.memory_modes import MemoryMode
from replicate.stats import PoolStats
from replicate_trealla.adapter import OnMutation, Options, TreallaAdapter, refuses_mutations
from replicate_trealla.answers import Answer
from replicate_trealla.async_queries import (
    AsyncPinnedSteps,
    AsyncQuery,
    AsyncStream,
    AsyncTransactionSteps,
    run_or_discard_async,
)
from replicate_trealla.changes import Kind, change
from replicate_trealla.interpreter import Consulted
from replicate_trealla.jobs import Ask, Failed, Programs, Register, Succeed
from replicate_trealla.predicates import Python, make_predicate, registering
from replicate_trealla.programs import program_of, read_programs
from replicate_trealla.queries import first, note_change, settled
from replicate_trealla.requests import Bindings, checked_limit, request_for
from replicate_trealla.session import Message, end_calls
from replicate_trealla.steps import Collect
from replicate_trealla.watch import CHANGED_FACTS

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["AsyncInterpreter", "AsyncPrologPool"]

P = TypeVar("P", bound=Python)


class AsyncInterpreter:
    """Be `Interpreter` for asyncio: ask within one transaction of an `AsyncPrologPool`, and die with it."""

    __slots__ = ("_guest", "_refuses")

    def __init__(self, guest: AsyncGuest, *, refuses: bool = False) -> None:
        self._guest = guest
        self._refuses = refuses

    async def _collect(self, request: bytes, limit: int | None, goal: str) -> list[Message]:
        told = await run_or_discard_async(self._guest, Collect(request, limit))
        return settled(self._guest, told, goal, refuses=self._refuses)

    def query(
        self, goal: str, *, bindings: Bindings | None = None, limit: int | None = None, stream: bool = False
    ) -> AsyncQuery:
        """Give the answers to a goal; see `Interpreter.query`."""
        limit = checked_limit(limit)
        request = request_for(goal, bindings, "stream" if stream else "all")
        if stream:
            return AsyncStream(goal, request, limit, self._begin)
        return AsyncQuery(goal, partial(self._collect, request, limit, goal))

    async def _begin(self) -> AsyncTransactionSteps:
        return AsyncTransactionSteps(self._guest, refuses=self._refuses)

    async def query_all(self, goal: str, *, bindings: Bindings | None = None, limit: int | None = None) -> list[Answer]:
        """Give all answers, or the first `limit` ones; see `Interpreter.query_all`."""
        return await self.query(goal, bindings=bindings, limit=limit).all()

    async def query_once(self, goal: str, *, bindings: Bindings | None = None) -> Answer | None:
        """Give the first answer, or None if the goal fails; see `Interpreter.query_once`."""
        return first(await self._collect(request_for(goal, bindings), 1, goal), goal)

    async def execute(self, goal: str, *, bindings: Bindings | None = None) -> Answer | None:
        """Run a goal for what it changes; see `Interpreter.execute`."""
        return await self.query_once(goal, bindings=bindings)

    async def consult_text(self, text: str, *, name: str = "user", module: str = "user") -> Consulted:
        """Load a program; see `Interpreter.consult_text`."""
        note_change(self._guest, CHANGED_FACTS, f"consulting {name}", refuses=self._refuses)
        return await self._guest.run(Programs((program_of(text, name, module),)))

    async def consult(self, *paths: str | os.PathLike[str]) -> Consulted:
        """Load program files of the host; see `Interpreter.consult`."""
        note_change(self._guest, CHANGED_FACTS, "consulting files", refuses=self._refuses)
        return await self._guest.run(Programs(read_programs(paths)))

    async def assertz(self, *clauses: object) -> None:
        """Add clauses at the end; see `Interpreter.assertz`."""
        await self._change("assertz", clauses)

    async def asserta(self, *clauses: object) -> None:
        """Add clauses at the beginning; see `Interpreter.asserta`."""
        await self._change("asserta", clauses)

    async def retract(self, *clauses: object) -> int:
        """Remove clauses, and give how many there were; see `Interpreter.retract`."""
        return await self._change("retract", clauses)

    async def retractall(self, *heads: object) -> None:
        """Remove all clauses of these heads; see `Interpreter.retractall`."""
        await self._change("retractall", heads)

    async def _change(self, kind: Kind, clauses: tuple[object, ...]) -> int:
        note_change(self._guest, CHANGED_FACTS, kind, refuses=self._refuses)
        return await self._guest.run(change(kind, clauses))


class AsyncPrologPool:
    """Be `PrologPool` for asyncio: the same options, the same methods, to be awaited.

    ::

        async with AsyncPrologPool(program=":- dynamic(edge/2). edge(a, b).") as pool:
            await pool.execute("assertz(edge(b, c))")
            async for answer in pool.query("edge(X, Y)"):
                ...

    ``pool = await AsyncPrologPool(...)`` opens it too, to be closed by `close`. Guests run in worker threads, and waiting never
    blocks the event loop. A task that is cancelled while its goal runs returns at once, and the goal is stopped: what it
    changed is forgotten, unless its commit was already under way.
    """

    def __init__(
        self,
        *,
        replicas: int | None = None,
        min_replicas: int | None = None,
        engine: str | Engine = "wasmtime",
        reset: ResetRule | None = None,
        on_mutation: OnMutation = "reset",
        memory: MemoryMode = "auto",
        interruptible: bool = True,
        max_memory: int | None = None,
        name: str | None = None,
        workers: Workers | None = None,
        **options: Unpack[Options],
    ) -> None:
        adapter = TreallaAdapter(**options)
        self._held = adapter.held
        # Told later, when the module is there.
        self._refusing: Callable[[], bool] = partial(refuses_mutations, adapter, on_mutation)
        self._opening: Callable[[], Awaitable[AsyncPool]] = partial(
            AsyncPool.open,
            adapter,
            engine=engine,
            replicas=replicas,
            min_replicas=min_replicas,
            reset=reset,
            memory=memory,
            interruptible=interruptible,
            max_memory=max_memory,
            name=name,
            workers=workers,
        )
        self._pool: AsyncPool | None = None

    @property
    def pool(self) -> AsyncPool:
        """The pool of guests underneath; raises `PoolError` before it's open."""
        if self._pool is None:
            raise PoolError("this pool isn't open yet: use it in 'async with', or await it")
        return self._pool

    async def _open(self) -> AsyncPrologPool:
        if self._pool is None:
            self._refuses = await asyncio.get_running_loop().run_in_executor(None, self._refusing)
            self._pool = await self._opening()
        return self

    def __await__(self) -> Generator[Any, None, AsyncPrologPool]:
        return self._open().__await__()

    # -- reads ---------------------------------------------------------------------------------------------------------

    def query(
        self,
        goal: str,
        *,
        bindings: Bindings | None = None,
        limit: int | None = None,
        stream: bool = False,
        timeout: float | None = None,
    ) -> AsyncQuery:
        """Give the answers to a goal on the newest version; see `PrologPool.query`."""
        limit = checked_limit(limit)
        if stream:
            return AsyncStream(goal, request_for(goal, bindings, "stream"), limit, partial(self._pin, timeout))
        return AsyncQuery(goal, partial(self._collect, request_for(goal, bindings), goal, limit, timeout))

    async def _pin(self, timeout: float | None) -> AsyncPinnedSteps:
        return AsyncPinnedSteps(await self.pool.pin(timeout=timeout), refuses=self._refuses)

    async def _collect(self, request: bytes, goal: str, limit: int | None, timeout: float | None) -> list[Message]:
        return await self.pool.read(Ask(Collect(request, limit), goal, self._refuses), timeout=timeout)

    async def query_all(
        self, goal: str, *, bindings: Bindings | None = None, limit: int | None = None, timeout: float | None = None
    ) -> list[Answer]:
        """Give all answers, or the first `limit` ones; see `PrologPool.query_all`."""
        return await self.query(goal, bindings=bindings, limit=limit, timeout=timeout).all()

    async def query_once(
        self, goal: str, *, bindings: Bindings | None = None, timeout: float | None = None
    ) -> Answer | None:
        """Give the first answer, or None if the goal fails; see `PrologPool.query_once`."""
        return first(await self._collect(request_for(goal, bindings), goal, 1, timeout), goal)

    @asynccontextmanager
    async def reading(self, *, timeout: float | None = None) -> AsyncIterator[AsyncInterpreter]:
        """Open a read for several queries on one version."""
        async with self.pool.reading(timeout=timeout) as guest:
            try:
                yield AsyncInterpreter(guest, refuses=self._refuses)
            finally:
                end_calls(guest)

    # -- writes --------------------------------------------------------------------------------------------------------

    async def execute(
        self, goal: str, *, bindings: Bindings | None = None, timeout: float | None = None
    ) -> Answer | None:
        """Run a goal on the leader, up to its first answer, and commit; see `PrologPool.execute`."""
        request = request_for(goal, bindings)
        try:
            return await self.pool.write(Succeed(request, goal), timeout=timeout)
        except Failed:
            return None

    async def consult_text(
        self, text: str, *, name: str = "user", module: str = "user", timeout: float | None = None
    ) -> Consulted:
        """Load a program whole and commit, or raise and change nothing; see `PrologPool.consult_text`."""
        return await self.pool.write(Programs((program_of(text, name, module),)), timeout=timeout, in_worker=True)

    async def consult(self, *paths: str | os.PathLike[str], timeout: float | None = None) -> Consulted:
        """Load program files of the host, or a folder's, all or none of them, and commit; see `PrologPool.consult`."""
        return await self.pool.write(Programs(read_programs(paths)), timeout=timeout, in_worker=True)

    async def assertz(self, *clauses: object, timeout: float | None = None) -> None:
        """Add clauses at the end, all or none, and commit; see `Interpreter.assertz`."""
        await self._change("assertz", clauses, timeout)

    async def asserta(self, *clauses: object, timeout: float | None = None) -> None:
        """Add clauses at the beginning, all or none, and commit; see `Interpreter.asserta`."""
        await self._change("asserta", clauses, timeout)

    async def retract(self, *clauses: object, timeout: float | None = None) -> int:
        """Remove clauses, commit, and give how many there were; see `Interpreter.retract`."""
        return await self._change("retract", clauses, timeout)

    async def retractall(self, *heads: object, timeout: float | None = None) -> None:
        """Remove all clauses of these heads, and commit; see `Interpreter.retractall`."""
        await self._change("retractall", heads, timeout)

    async def _change(self, kind: Kind, clauses: tuple[object, ...], timeout: float | None) -> int:
        return await self.pool.write(change(kind, clauses), timeout=timeout, in_worker=True)

    async def register(self, indicator: str | None, function: Python, *, timeout: float | None = None) -> None:
        """Make a Python function a predicate, in all replicas, by a write; see `PrologPool.register`.

        It's called in worker threads, and must be a plain function. Before the pool is open, give it as `predicates`.
        """
        held = make_predicate(indicator, function)
        await self.pool.write(Register(held), timeout=timeout)
        self._held.append(held)

    def predicate(self, indicator: str | None = None) -> Callable[[P], P]:
        """Make the decorated function a predicate, before the pool is open; see `register` for later."""
        decorate = registering(indicator, self._hold)
        if self._pool is not None:
            raise PoolError(
                "this pool is open already: a decorator can't wait for a write; use 'await pool.register(...)'"
            )
        return decorate

    def _hold(self, indicator: str | None, function: Python) -> None:
        held = make_predicate(indicator, function)
        self._held.append(held)

    @asynccontextmanager
    async def writing(self, *, timeout: float | None = None) -> AsyncIterator[AsyncInterpreter]:
        """Open a write for several goals: commit on leaving, roll back on an exception or cancellation."""
        async with self.pool.writing(timeout=timeout) as guest:
            try:
                yield AsyncInterpreter(guest)
            finally:
                end_calls(guest)

    transaction = writing
    """`writing` by the name that `Prolog.transaction` has."""

    # -- the rest ------------------------------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """The number of commits so far."""
        return self.pool.version

    @property
    def replicas(self) -> int:
        """The number of replicas the pool keeps."""
        return self.pool.replicas

    def resize(self, replicas: int) -> None:
        """Keep that many replicas from now on."""
        self.pool.resize(replicas)

    def stats(self) -> PoolStats:
        """Give what the pool has done and what it costs."""
        return self.pool.stats()

    def branch(self, *, name: str | None = None) -> AsyncPrologPool:
        """Open a pool of its own that starts with this one's newest facts: ``async with pool.branch() as what_if``."""
        branch = AsyncPrologPool.__new__(AsyncPrologPool)
        branch._pool = None
        refuses = self._refuses
        branch._held = [*self._held]
        branch._refusing = lambda: refuses
        branch._opening = partial(self.pool.branch, name=name)
        return branch

    async def close(self) -> None:
        """Refuse new queries and free the interpreters; see `PrologPool.close`. Closing twice is fine."""
        if self._pool is not None:
            await self._pool.close()

    async def __aenter__(self) -> AsyncPrologPool:
        return await self._open()

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        if self._pool is None:
            return "<AsyncPrologPool, not open>"
        return f"<AsyncPrologPool{repr(self._pool)[len('<AsyncPool') :]}"
