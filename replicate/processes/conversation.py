"""The talk between an instance in the parent and its worker: questions, answers, host functions meanwhile, and its end.

The thread that asks waits for the answer with the interpreter lock released. Only while it waits can the worker be stopped
or killed for the transaction's limit, which is looked at when the engine ticks.
"""

from __future__ import annotations

import pickle
import threading
import weakref
from threading import get_ident
from typing import TYPE_CHECKING, Any

from replicate.errors import (
    ArgumentTypeError,
    DeadHandleError,
    GuestInterruptedError,
    HostResultError,
    WorkerDiedError,
)
from replicate.interfaces import Instance
from replicate.limits import ResourceLimits
from replicate.processes.exceptions import Parked, pack_error, unpack_error
from replicate.processes.messages import Kind
from replicate.processes.process import WorkerProcess
from replicate.processes.shipping import RemoteLinkage
from replicate.processes.state import RemoteState
from replicate.processes.transport import EndOfWorkerError
from replicate.processes.values import FunctionNumber, ParentObjects
from replicate.values import FuncRef, explain_arguments

if TYPE_CHECKING:
    from replicate.processes.image import Pending
    from replicate.processes.module import RemoteModule

__all__ = ["AskingInstance"]

_GRACE_SECONDS = 1.0
"""How long a guest that was asked to stop may take, before its process is killed."""


class AskingInstance(Instance):
    """Be an instance as far as it asks its worker."""

    module: RemoteModule
    linkage: RemoteLinkage
    state: RemoteState  # type: ignore[assignment]

    def __init__(
        self, module: RemoteModule, linkage: RemoteLinkage, limits: ResourceLimits, process: WorkerProcess
    ) -> None:
        """Take over a worker that has been sent requests for making its engine and this instance, and hasn't answered."""
        super().__init__(module, linkage, limits)
        self.state = RemoteState(self.ask)
        self.process = process
        self.pending: Pending | None = None
        """What makes the instance equal to the committed state, to go along with the next request."""
        self.known: tuple[int, int, object] = (0, 0, None)
        """The epoch and the version that the worker knows, and its small state."""
        self.private_bytes = 0
        """The bytes of memory that it shared with nobody when it was last restored."""
        self._unanswered = 0
        self._interruptible = False
        self._closed = False
        self._lost: str | None = None
        self._parked = Parked()
        self._objects = ParentObjects(self._make_reference, self._number_of)
        self._watch = threading.Lock()
        self._waiting = False
        self._told: float | None = None
        self._finalizer = weakref.finalize(self, WorkerProcess.end, process)

    # -- asking --------------------------------------------------------------------------------------------------------

    def expect(self, answers: int, *, interruptible: bool) -> None:
        """Note that the worker was sent requests whose answers nobody has read."""
        self._unanswered = answers
        self._interruptible = interruptible

    def ask(self, operation: str, *arguments: Any) -> Any:
        """Have the worker do something, and give what it answers, or raise what was raised there."""
        return self._enter(operation, arguments)

    def send_files(self, operation: str, arguments: tuple[Any, ...], files: list[int]) -> Any:
        """Ask for something that descriptors go along with."""
        return self._enter(operation, arguments, files)

    def _enter(self, operation: str, arguments: tuple[Any, ...], files: list[int] | None = None) -> Any:
        token = self.gate.token
        try:
            del token[0]
        except IndexError:
            self._check_reentry()
            return self._exchange(operation, arguments, files)
        try:
            return self._exchange(operation, arguments, files)
        finally:
            token.append(None)

    def _check_reentry(self) -> None:
        if self._closed:
            raise DeadHandleError("this instance is closed")
        self.gate.check_reentry()

    def _exchange(self, operation: str, arguments: tuple[Any, ...], files: list[int] | None = None) -> Any:
        if self._closed:
            raise DeadHandleError("this instance is closed")
        if self._lost is not None:
            raise self._died()
        limit = self.limit
        bound = None
        if limit is not None:
            if limit.interrupted:
                limit.check()
            remaining = limit.remaining
            if remaining is not None:
                bound = (limit.seconds, remaining)
        pending, sync = self.pending, None
        files = files or []
        if pending is not None:
            sync, attached = pending.message(self.known)
            files = attached + files
        writes = self.state.writes()
        message: Any = (operation, arguments, self.generation, bound, sync, writes, len(files))
        try:
            data = self._pickled(message)
        except BaseException:
            self.state.put_back(writes)
            raise
        channel = self.process.channel
        try:
            self._set_waiting(True)
            while self._unanswered:
                self._take_start(channel.receive())
            channel.send_pickled(data)
            if files:
                channel.send_files(files)
            message = channel.receive()
        except BaseException as error:
            raise self._failed(error) from None
        finally:
            self._set_waiting(False)
        while message[0] == Kind.HOST_CALL:
            if pending is not None and self.pending is pending:
                # It's done before anything is run, and mustn't be done again by what the host function asks meanwhile.
                self.pending, self.known = None, pending.known
            answer = self._serve(message[1], message[2])
            try:
                self._set_waiting(True)
                channel.send_pickled(answer)
                message = channel.receive()
            except BaseException as error:
                raise self._failed(error) from None
            finally:
                self._set_waiting(False)
        kind, value, more, self.cut_short = message
        if kind == Kind.RESULT:
            if pending is not None and (self.pending is None or self.pending is pending):
                self._synced(pending, more)
            return value
        if pending is not None and self.pending is pending:
            if more:
                self._synced(pending, None)
            else:
                # Half a state is none.
                self.lose("couldn't be made equal to the committed state")
        raise self._brought(value)

    def _pickled(self, message: tuple[Any, ...]) -> bytes:
        try:
            return pickle.dumps(message, 5)
        except Exception as error:
            # Arguments that aren't of the types that they should be, or the worker would say so.
            if message[0] == "call":
                name, values = message[1]
                explain_arguments(name, self.module.function_type(name), values)
            raise ArgumentTypeError(f"this can't be sent to a worker process: {error}") from error

    def _take_start(self, message: Any) -> None:
        self._unanswered -= 1
        if message[0] == Kind.ERROR:
            self._lost = "couldn't be started"
            raise unpack_error(message[1])

    def _synced(self, pending: Pending, cost: tuple[int, int] | None) -> None:
        self.pending = None
        self.known = pending.known
        if cost is not None:
            copied, self.private_bytes = cost
            pending.done(copied)

    def _failed(self, error: BaseException) -> BaseException:
        """Give what to raise when the talk with the worker broke off: nothing can be asked any more."""
        if self._lost is None:
            if not isinstance(error, EndOfWorkerError):
                # Interrupted by Ctrl-C, for instance; the worker may be in the middle of a message, or in an endless guest.
                self.process.kill()
            self._lost = self.process.describe_end()
        if not isinstance(error, EndOfWorkerError):
            return error
        limit = self.limit
        if limit is not None and limit.interrupted:
            try:
                limit.check()
            except GuestInterruptedError as late:
                return late
        return self._died()

    def _died(self) -> WorkerDiedError:
        return WorkerDiedError(
            f"worker process {self.process.pid} {self._lost}; this transaction is lost, the next one gets another worker"
        )

    def _brought(self, packed: Any) -> BaseException:
        """Give the exception for what the worker raised; this side's own come back as they were."""
        parked = self._parked.take(packed[1])
        if parked is not None:
            return parked
        error = unpack_error(packed)
        limit = self.limit
        if isinstance(error, GuestInterruptedError) and limit is not None and limit.interrupted:
            try:
                limit.check()
            except GuestInterruptedError as late:
                return late
        return error

    # -- host functions ------------------------------------------------------------------------------------------------

    def _serve(self, number: int, arguments: tuple[Any, ...]) -> bytes:
        """Run a host function for the guest, and give the answer, pickled."""
        gate = self.gate
        outer, gate.host_thread = gate.host_thread, get_ident()
        try:
            host = self.linkage.hosts[number]
            arguments = self._objects.came(arguments)
            result = host.fn(self.guest, *arguments) if host.caller else host.fn(*arguments)
            if self.limit is not None:
                self.limit.check()
            if host.linked is None:
                return pickle.dumps((True, result if host.answers else None), 5)
            kinds = host.linked.type.results
            if not all(kind.is_number for kind in kinds):
                values = result if isinstance(result, (tuple, list)) else (result,)
                result = tuple(self._objects.out(value, kind) for value, kind in zip(values, kinds, strict=False))
                result = result[0] if len(result) == 1 else result
            try:
                return pickle.dumps((True, result), 5)
            except Exception as error:
                raise HostResultError(
                    f"host function {host.linked.name} must return {host.linked.type}, and returned {result!r:.80}"
                ) from error
        except BaseException as error:  # whatever it is, it has to cross the guest's frames
            return pickle.dumps((False, pack_error(error, number=self._parked.park(error))), 5)
        finally:
            gate.host_thread = outer

    # -- watching ------------------------------------------------------------------------------------------------------

    def _set_waiting(self, waiting: bool) -> None:
        with self._watch:
            self._waiting = waiting
            self._told = None

    def look(self, now: float) -> float | None:
        """Stop the guest if its limit says so; give when to look again, if need be. Called from any thread, never waits."""
        with self._watch:
            limit = self.limit
            if not self._waiting or limit is None or not limit.interrupted:
                return None
            if self._interruptible:
                if self._told is None:
                    self._told = now
                    self.process.cancel(self.generation)
                if now < self._told + _GRACE_SECONDS:
                    return self._told + _GRACE_SECONDS
            self.process.kill()
            return None

    @property
    def is_lost(self) -> bool:
        usable = self._lost is None and not self._closed and not self.gate.locked()
        if usable and not self.process.channel.is_open():
            self._lost = self.process.describe_end()
        return self._lost is not None

    def sync_later(self, pending: Pending) -> None:
        """Have the instance made equal to a committed state with the next request."""
        if self.pending is not None:
            pending.private = pending.private or self.pending.private
        self.pending = pending
        if not pending.accept:
            self.state.forget()
            self._objects.forget()

    def lose(self, why: str) -> None:
        """Give the worker up."""
        self._lost = why
        self.process.kill()

    # -- references ----------------------------------------------------------------------------------------------------

    def _make_reference(self, found: FunctionNumber) -> FuncRef:
        generation = self.generation

        def call(*args: Any) -> Any:
            values = tuple(self._objects.out(value, None) if isinstance(value, FuncRef) else value for value in args)
            return self._objects.came(self.ask("call_function", found, values))

        return FuncRef(
            index=found.index,
            native=(self, found.number),
            call=call,
            is_alive=lambda: self.generation == generation and not self._closed,
        )

    def _number_of(self, reference: FuncRef) -> int | None:
        native: Any = reference.native()
        owner, number = native
        if owner is not self:
            raise ArgumentTypeError(
                "this is a function of another instance; only this instance's own can be stored in it"
            )
        result: int = number
        return result
