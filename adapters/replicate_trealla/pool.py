"""Prolog for many threads: a pool of replicas."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from replicate.adapter import ResetRule
from replicate.configuration import Workers
from replicate.interfaces import Engine
from replicate.memory_modes import MemoryMode
from replicate.pool import Pool
from replicate.stats import PoolStats
from replicate_trealla.adapter import OnMutation, Options, TreallaAdapter, refuses_mutations
from replicate_trealla.answers import Answer
from replicate_trealla.changes import Kind, change
from replicate_trealla.interpreter import Consulted, Interpreter
from replicate_trealla.jobs import Ask, Failed, Programs, Register, Succeed
from replicate_trealla.predicates import Python, make_predicate, registering
from replicate_trealla.programs import program_of, read_programs
from replicate_trealla.queries import PinnedSteps, Query, Stream, first
from replicate_trealla.requests import Bindings, checked_limit, request_for
from replicate_trealla.session import Message, end_calls
from replicate_trealla.steps import Collect

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["PrologPool"]

P = TypeVar("P", bound=Python)


class PrologPool:
    """Be Prolog for many threads: queries run on replicas, in parallel; changes are transactions on the leader.

    ::

        with PrologPool(program=":- dynamic(edge/2). edge(a, b).") as pool:
            pool.execute("assertz(edge(b, c))")
            pool.query_all("edge(X, Y)")  # [{'X': Atom('a'), 'Y': Atom('b')}, ...]

    A query never sees what another one changed: a goal that changes facts, flags, operators or streams in a read is noticed,
    and its replica reset. With ``on_mutation="raise"`` one that changes facts, flags or operators raises `MutationError`, too.
    Under ``reset="each_read"`` all replicas are reset after each query, and random numbers start anew in each; the default,
    ``"on_commit"``, does so when it must. `replicas` defaults to the number of usable cores. `min_replicas`,
    `memory`, `interruptible`, `max_memory`, `name` and `workers` are as in `replicate.Pool.open`; the other options are
    `TreallaAdapter`'s. Raises what `Pool.open` raises, and `ConsultError` for the programs.

    `timeout`, everywhere, bounds waiting for a replica or the leader and running the goal, in seconds: `PoolTimeoutError`
    and `GuestTimeoutError`, which are both `TimeoutError`, say it's over. None is no bound.
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
        self._refuses = refuses_mutations(adapter, on_mutation)
        self.pool = Pool.open(
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
        """The pool of guests underneath."""

    # -- reads ---------------------------------------------------------------------------------------------------------

    def query(
        self,
        goal: str,
        *,
        bindings: Bindings | None = None,
        limit: int | None = None,
        stream: bool = False,
        timeout: float | None = None,
    ) -> Query:
        """Give the answers to a goal on the newest version, at most `limit` of them; see `Interpreter.query`.

        The replica is free again when this returns: all answers have been computed then. With `stream`, they're computed
        one by one, from the first that is asked for to the last, or to the query's end by `close`, by ``with``, or because
        nobody holds it any more. Until then it has a replica for itself, at the version it began with, and the pool makes
        another in its stead when it's needed: this thread and others go on using the pool, with up to 256 streams open
        (`PoolError`). A stream's `timeout` is for the time that is spent on it, waiting for a replica and computing all its
        answers; what its user does between two answers doesn't count.
        """
        limit = checked_limit(limit)
        if stream:
            return Stream(goal, request_for(goal, bindings, "stream"), limit, partial(self._pin, timeout))
        return Query(goal, iter(self._collect(request_for(goal, bindings), goal, limit, timeout)))

    def query_all(
        self, goal: str, *, bindings: Bindings | None = None, limit: int | None = None, timeout: float | None = None
    ) -> list[Answer]:
        """Give all answers, or the first `limit` ones; see `Interpreter.query_all`."""
        return list(self.query(goal, bindings=bindings, limit=limit, timeout=timeout))

    def query_once(self, goal: str, *, bindings: Bindings | None = None, timeout: float | None = None) -> Answer | None:
        """Give the first answer, or None if the goal fails; see `Interpreter.query_once`."""
        request = request_for(goal, bindings)
        return first(self._collect(request, goal, 1, timeout), goal)

    def _collect(self, request: bytes, goal: str, limit: int | None, timeout: float | None) -> list[Message]:
        return self.pool.read(Ask(Collect(request, limit), goal, self._refuses), timeout=timeout, any_thread=True)

    def _pin(self, timeout: float | None) -> PinnedSteps:
        return PinnedSteps(self.pool.pin(timeout=timeout), refuses=self._refuses)

    @contextmanager
    def reading(self, *, timeout: float | None = None) -> Iterator[Interpreter]:
        """Open a read for several queries on one version."""
        with self.pool.reading(timeout=timeout) as guest:
            try:
                yield Interpreter(guest, refuses=self._refuses, held=self._held)
            finally:
                end_calls(guest)

    # -- writes --------------------------------------------------------------------------------------------------------

    def execute(self, goal: str, *, bindings: Bindings | None = None, timeout: float | None = None) -> Answer | None:
        """Run a goal on the leader, up to its first answer, and commit; or give None if it fails.

        A goal that fails or throws changes nothing: whatever it had done is rolled back.
        """
        request = request_for(goal, bindings)
        try:
            return self.pool.write(Succeed(request, goal), timeout=timeout)
        except Failed:
            return None

    def consult_text(
        self, text: str, *, name: str = "user", module: str = "user", timeout: float | None = None
    ) -> Consulted:
        """Load a program whole and commit, or raise and change nothing; see `Interpreter.consult_text`."""
        return self.pool.write(Programs((program_of(text, name, module),)), timeout=timeout, in_worker=True)

    def consult(self, *paths: str | os.PathLike[str], timeout: float | None = None) -> Consulted:
        """Load program files of the host, or a folder's, all or none of them, and commit; see `Interpreter.consult`.

        They're read here; replicas need no files.
        """
        return self.pool.write(Programs(read_programs(paths)), timeout=timeout, in_worker=True)

    def assertz(self, *clauses: object, timeout: float | None = None) -> None:
        """Add clauses at the end, all or none, and commit: ``pool.assertz(*facts)``; see `Interpreter.assertz`."""
        self._change("assertz", clauses, timeout)

    def asserta(self, *clauses: object, timeout: float | None = None) -> None:
        """Add clauses at the beginning, all or none, and commit; see `Interpreter.asserta`."""
        self._change("asserta", clauses, timeout)

    def retract(self, *clauses: object, timeout: float | None = None) -> int:
        """Remove clauses, commit, and give how many there were; see `Interpreter.retract`."""
        return self._change("retract", clauses, timeout)

    def retractall(self, *heads: object, timeout: float | None = None) -> None:
        """Remove all clauses of these heads, and commit; see `Interpreter.retractall`."""
        self._change("retractall", heads, timeout)

    def _change(self, kind: Kind, clauses: tuple[object, ...], timeout: float | None) -> int:
        return self.pool.write(change(kind, clauses), timeout=timeout, in_worker=True)

    def register(self, indicator: str | None, function: Python, *, timeout: float | None = None) -> None:
        """Make a Python function a predicate, in all replicas, by a write; see `Interpreter.register`.

        In a read, it's called by whichever thread runs that; a call of this pool from inside it raises
        `NestedTransactionError`. With worker processes it's called in this process, too: a question to it for each call.
        """
        held = make_predicate(indicator, function)
        self.pool.write(Register(held), timeout=timeout)
        self._held.append(held)

    def predicate(self, indicator: str | None = None) -> Callable[[P], P]:
        """Make the decorated function a predicate: ``@pool.predicate("double/2")``; see `register`.

        Without an indicator it has the function's name, and as many arguments as the function.
        """
        return registering(indicator, self.register)

    @contextmanager
    def writing(self, *, timeout: float | None = None) -> Iterator[Interpreter]:
        """Open a write for several goals: commit on leaving, roll back on an exception.

        Here a goal that fails rolls nothing back: raise something if it should.
        """
        with self.pool.writing(timeout=timeout) as guest:
            try:
                yield Interpreter(guest, held=self._held)
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

    def branch(self, *, name: str | None = None, timeout: float | None = None) -> PrologPool:
        """Open a pool of its own that starts with this one's newest facts, for writes that must not count here."""
        branch = PrologPool.__new__(PrologPool)
        branch._refuses, branch._held = self._refuses, [*self._held]
        branch.pool = self.pool.branch(name=name, timeout=timeout)
        return branch

    def close(self) -> None:
        """Refuse new queries and free the interpreters; queries that are running end undisturbed first."""
        self.pool.close()

    def __enter__(self) -> PrologPool:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Prolog{repr(self.pool)[1:]}"
