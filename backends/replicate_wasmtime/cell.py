"""One wasmtime store and what lives exactly as long as it: its gate, its host functions, its references.

wasmtime frees an instance only with its store, so every instance has a store of its own, and replacing the instance
means a new cell. Callables bound to an old cell keep the cell, find its gate shut, and raise instead of touching freed memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from threading import get_ident
from typing import Any

import wasmtime

from replicate.errors import ConcurrentUseError, DeadHandleError, EngineError
from replicate.interfaces import Gate

from . import _capi

__all__ = ["Cell"]

_NEVER = 1 << 62
"""Epoch ticks until the deadline of a call that has none."""

_handlers: dict[int, Callable[[int], int | None]] = {}
_numbers = itertools.count(1)
_objects: dict[int, Any] = {}


def _enter_host(number: int | None, _caller: int | None, values: int | None, _count: int) -> int | None:
    return _handlers[number or 0](values or 0)


# One C callback for all host functions of all stores: it lives as long as the process, so none can outlive its code.
_callback = _capi.HostCallback(_enter_host)


def _forget(number: int | None) -> None:
    _objects.pop(number or 0, None)


_forget_callback = _capi.Finalizer(_forget)


class Cell:
    """Own one store."""

    __slots__ = ("_numbers", "context", "gate", "pending", "stale", "store")

    def __init__(self, engine: wasmtime.Engine) -> None:
        self.store = wasmtime.Store(engine)
        self.context = _capi.context_of(self.store)
        self.gate = Gate()
        self.pending: BaseException | None = None
        """What a host function raised, until the guest call that it ended has unwound."""
        self.stale = False
        self._numbers: list[int] = []
        _capi.set_epoch_deadline(self.context, _NEVER)

    def add_host_function(self, native_type: int, handler: Callable[[int], int | None], extern: int) -> None:
        """Make a host function of the native type at `native_type` and write it to the extern at `extern`."""
        number = next(_numbers)
        _handlers[number] = handler
        self._numbers.append(number)
        _capi.func_new_unchecked(self.context, native_type, _callback, number, None, extern)

    def root(self, value: object, ref: int) -> None:
        """Make a rooted externref of `value` at `ref`; the caller unroots it."""
        number = next(_numbers)
        _objects[number] = value
        if not _capi.externref_new(self.context, number, _forget_callback, ref):
            del _objects[number]
            raise EngineError("wasmtime couldn't allocate an externref: its garbage-collected heap is full")

    def object_of(self, ref: int) -> Any:
        """Give the Python object behind the externref at `ref`."""
        number = _capi.externref_data(self.context, ref)
        return _objects.get(number) if number else None

    def check_reentry(self) -> None:
        """Raise unless the calling thread is inside a host function that this cell's guest called."""
        if self.stale:
            raise DeadHandleError("this function's instance was closed or replaced; fetch the function again")
        if self.gate.host_thread != get_ident():
            raise ConcurrentUseError(
                "another thread is inside this instance: a Wasm instance is single-threaded; give each thread a replica"
            )

    def close(self) -> None:
        """Free the store; raise `ConcurrentUseError` while a call is inside."""
        if self.stale:
            return
        if not self.gate.enter(False):
            raise ConcurrentUseError("can't close this instance: a call is running in it")
        self.stale = True
        self.store.close()
        for number in self._numbers:
            _handlers.pop(number, None)
