"""Prolog for Python: one interpreter."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from replicate.imports import ImportValue
from replicate.interfaces import Engine, Instance
from replicate.limits import ResourceLimits, check_timeout
from replicate.registry import load_engine
from replicate_trealla.adapter import Options, TreallaAdapter
from replicate_trealla.answers import Answer
from replicate_trealla.changes import Kind
from replicate_trealla.interpreter import Consulted, Interpreter
from replicate_trealla.predicates import Python
from replicate_trealla.programs import Program, program_of
from replicate_trealla.queries import Query, Step, Stream, TransactionSteps
from replicate_trealla.requests import Bindings, checked_limit, request_for
from replicate_trealla.session import Message, forget_session, session_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Prolog"]

P = TypeVar("P", bound=Python)


class Prolog(Interpreter):
    """Be one Prolog interpreter: no replicas, and no roll back except for programs and in a `transaction`.

    ::

        with Prolog(program="parent(ann, bob).") as prolog:
            prolog.query_once("parent(ann, Child)")["Child"]  # Atom('bob')

    `max_memory` bounds the guest's memory in bytes; the other options are `TreallaAdapter`'s.

    Hazards: one thread at a time; an endless goal ends with Ctrl-C or a `timeout`, and so does the interpreter; what a goal
    changed before it failed or threw stays changed, as in Prolog; an interpreter that ended (`InterpreterError`, a `Trap`)
    can't be used any more. A `transaction` puts all of these back.
    """

    __slots__ = ("_adapter", "_instance")

    def __init__(
        self,
        *,
        engine: str | Engine = "wasmtime",
        max_memory: int | None = None,
        **options: Unpack[Options],
    ) -> None:
        adapter = self._adapter = TreallaAdapter(**options)
        runtime = load_engine(engine) if isinstance(engine, str) else engine
        imports: dict[str, dict[str, ImportValue]] = {}
        for given in (adapter.wasi.imports(), adapter.imports()):
            for module, functions in given.items():
                imports.setdefault(module, {}).update(functions)
        limits = ResourceLimits(memory_bytes=max_memory)
        self._instance = runtime.compile(adapter.source()).instantiate(imports, limits=limits)
        try:
            adapter.start(self._instance.guest)
        except BaseException:
            self._instance.close()
            raise
        super().__init__(self._instance.guest, held=adapter.held)

    # -- queries, with timeouts ----------------------------------------------------------------------------------------

    def query(
        self,
        goal: str,
        *,
        bindings: Bindings | None = None,
        limit: int | None = None,
        stream: bool = False,
        timeout: float | None = None,
    ) -> Query:
        """Give the answers to a goal, at most `limit` of them; see `Interpreter.query`.

        `timeout` bounds computing all of them, in seconds. Hazard: a goal that is stopped, by `GuestTimeoutError`, leaves an
        interpreter that can't be used any more, unless it was in a `transaction`, which puts it back.
        """
        if stream:
            request = request_for(goal, bindings, "stream")
            left = check_timeout(timeout)
            return Stream(
                goal,
                request,
                checked_limit(limit),
                lambda: _BoundedSteps(self._instance, self._left, left, refuses=self._refuses),
            )
        with self._instance.within(timeout):
            return super().query(goal, bindings=bindings, limit=limit)

    def query_all(
        self, goal: str, *, bindings: Bindings | None = None, limit: int | None = None, timeout: float | None = None
    ) -> list[Answer]:
        """Give all answers, or the first `limit` ones; see `query`. Raises if the goal throws at any point."""
        return list(self.query(goal, bindings=bindings, limit=limit, timeout=timeout))

    def query_once(self, goal: str, *, bindings: Bindings | None = None, timeout: float | None = None) -> Answer | None:
        """Give the first answer, or None if the goal fails; see `query`."""
        with self._instance.within(timeout):
            return super().query_once(goal, bindings=bindings)

    def execute(self, goal: str, *, bindings: Bindings | None = None, timeout: float | None = None) -> Answer | None:
        """Run a goal for what it changes, up to its first answer; see `Interpreter.execute`, and `query` for `timeout`."""
        return self.query_once(goal, bindings=bindings, timeout=timeout)

    # -- all or nothing ------------------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[Prolog]:
        """Keep what is done inside, or put the interpreter back to what it was, on an exception; they may be nested.

        Takes a snapshot first: some milliseconds. The interpreter goes on even after what would have ended it (`halt/0`, no
        memory, a timeout). Streams that are open when it's put back end with an `InterpreterError`.
        """
        session_of(self._guest)  # an interpreter that has ended isn't worth keeping
        before = self._instance.snapshot()
        try:
            yield self
        except BaseException:
            self._instance.restore(before)
            forget_session(self._guest)
            raise

    def load_all(self, programs: Iterable[Program]) -> Consulted:
        """Load programs whole, or raise and change nothing; takes a snapshot first: some milliseconds for each call."""
        with self.transaction():
            return super().load_all(programs)

    def consult_text(self, text: str, *, name: str = "user", module: str = "user") -> Consulted:
        """Load a program whole, or raise and change nothing; see `Interpreter.consult_text`.

        Takes a snapshot first: some milliseconds for each call.
        """
        return self.load_all([program_of(text, name, module)])

    def _change(self, kind: Kind, clauses: tuple[object, ...]) -> int:
        if len(clauses) < 2:
            return super()._change(kind, clauses)
        with self.transaction():
            return super()._change(kind, clauses)

    def close(self) -> None:
        """Free the interpreter. Closing twice is fine."""
        self._instance.close()

    def __enter__(self) -> Prolog:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return "<Prolog>" if self._guest.is_alive else "<Prolog, closed>"


class _BoundedSteps(TransactionSteps):
    """Run a stream on a lone interpreter, with a bound on the time that its steps take together."""

    def __init__(self, instance: Instance, left: list[int], seconds: float | None, *, refuses: bool) -> None:
        super().__init__(instance.guest, left, refuses=refuses)
        self._instance = instance
        self._seconds = seconds

    def run(self, step: Step) -> Any:
        with self._bounded():
            return super().run(step)

    def following(self, number: int, goal: str) -> Message | None:
        with self._bounded():
            return super().following(number, goal)

    @contextmanager
    def _bounded(self) -> Iterator[None]:
        began = time.monotonic()
        try:
            with self._instance.within(self._seconds):
                yield
        finally:
            if self._seconds is not None:
                self._seconds = max(0.0, self._seconds - (time.monotonic() - began))
