"""One wasmer instance and what lives exactly as long as it: its gate, its host functions, its thread.

Every object of wasmer's Python package belongs to the thread that made it, and panics elsewhere, so the thread is looked at
before wasmer is entered. Freeing is the exception: objects may be dropped on any thread.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING, Any

from replicate.errors import ConcurrentUseError, DeadHandleError, ThreadBoundError
from replicate.gate import Gate

from .faults import call_fault

if TYPE_CHECKING:
    from .instance import WasmerInstance

__all__ = ["Cell", "here"]


class _Here(threading.local):
    """Tell the present thread apart from all others, dead ones included, whose numbers are given again."""

    def __init__(self) -> None:
        self.token = object()


here = _Here()


class Cell:
    """Own one wasmer instance."""

    __slots__ = ("__weakref__", "_slots", "gate", "handlers", "instance", "natives", "pending", "stale", "token")

    def __init__(self, instance: WasmerInstance) -> None:
        self.instance = instance
        self.token = here.token
        self.gate = Gate()
        self.pending: BaseException | None = None
        """What a host function raised, until the guest call has unwound."""
        self.stale = False
        self.natives: list[Any] = []
        """What wasmer has to keep for the instance to run."""
        self.handlers: list[Callable[..., Any]] = []
        self._slots: list[list[Any]] = []

    def host_function(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        """Give what wasmer may call for `handler`. It refers to nothing: Python can't see what wasmer keeps alive."""
        number = len(self.handlers)
        self.handlers.append(handler)
        reference = weakref.ref(self)

        def enter(*args: Any) -> Any:
            cell = reference()
            if cell is None:
                raise DeadHandleError("this host function's instance is gone")
            try:
                return cell.handlers[number](*args)
            except BaseException as error:  # whatever it is, it has to cross the guest's frames
                cell.pending = error
                raise

        return enter

    def slot(self, native: object) -> list[Any]:
        """Give a list of one object of wasmer's, emptied when the cell closes: who holds the list keeps nothing alive."""
        slot = [native]
        self._slots.append(slot)
        return slot

    def fault(self, error: BaseException) -> BaseException:
        """Give the exception for a call that failed: a host function's own, else what wasmer's means."""
        pending, self.pending = self.pending, None
        return call_fault(error) if pending is None else pending

    def check_thread(self) -> None:
        """Raise unless the calling thread made this cell, and it's open."""
        if self.stale:
            raise DeadHandleError("this instance is closed or was replaced")
        if here.token is not self.token:
            raise self.wrong_thread()

    def wrong_thread(self) -> Exception:
        """Make the error for a call on another thread."""
        if self.stale:
            return DeadHandleError("this function's instance was closed or replaced; fetch the function again")
        return ThreadBoundError(
            "wasmer's instances may only be used on the thread that made them: make one for each thread, "
            "or use an engine without the trait thread_bound"
        )

    def check_reentry(self) -> None:
        """Raise unless the calling thread is inside a host function that this cell's guest called."""
        if self.stale:
            raise DeadHandleError("this function's instance was closed or replaced; fetch the function again")
        if self.gate.host_thread != get_ident():
            raise ConcurrentUseError("a call is running in this instance, outside of its host functions")

    def close(self) -> None:
        """Free the instance, on any thread; raise `ConcurrentUseError` while a call is inside."""
        if self.stale:
            return
        try:
            del self.gate.token[0]
        except IndexError:
            raise ConcurrentUseError("can't close this instance: a call is running in it") from None
        self.stale = True
        for slot in self._slots:
            slot.clear()
        self._slots.clear()
        self.natives.clear()
        self.handlers.clear()
