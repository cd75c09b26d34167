"""One wasmtime store and what lives exactly as long as it: its gate, its host functions, its references.

wasmtime frees an instance only with its store, so every instance has a store of its own, and replacing the instance
means a new cell. Callables bound to an old cell keep the cell, find its gate shut, and raise instead of touching freed memory.
"""

from __future__ import annotations

import ctypes
import itertools
import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import wasmtime

from replicate.errors import ConcurrentUseError, DeadHandleError, EngineError, HostResultError
from replicate.gate import Gate
from replicate.limits import ticker
from replicate.signals import deaf_entry

from . import _capi

if TYPE_CHECKING:
    from .engine import WasmtimeEngine
    from .instance import WasmtimeInstance

__all__ = ["Cell", "close_cells"]

_numbers = itertools.count(1)
_objects: dict[int, Any] = {}
_cells: dict[int, weakref.ref[Cell]] = {}
"""Who C's callbacks belong to. Weak, or what has host functions would be freed only by closing it; and a plain dict, whose
entries remove themselves without any Python code that a signal handler could end."""
_SHIFT = 20
"""A host function is known to C by its cell's number and, in so many bits, its own."""


# ctypes leaves the value that C gets uninitialised when a callback raises, at its entry above all: a garbage pointer would be
# taken for a trap and freed.


@deaf_entry
def _failed(number: int, error: BaseException, make: Callable[[], int]) -> int:
    """Keep what a callback raised for the call that it ends, and give what tells wasmtime to end it, come what may."""
    try:
        cell = _cells[number]()
        if cell is not None:
            cell.pending = error
        return make()
    except BaseException as another:
        return _failed(number, another, make)


def _host_trap() -> int:
    trap: int = _capi.trap_new(b"a host function raised", 22)
    return trap


def _interruption() -> int:
    error: int = _capi.error_new(b"interrupted")
    return error


@deaf_entry
def _enter_host(number: int, _caller: int | None, values: int | None, _count: int) -> int | None:
    """Be called by a guest that calls an import."""
    try:
        cell = _cells[number >> _SHIFT]()
        assert cell is not None
        return cell.handlers[number](values or 0)
    except BaseException as error:  # whatever it is, it has to cross the guest's frames
        return _failed(number >> _SHIFT, error, _host_trap)


@deaf_entry
def _look_up(_context: int | None, number: int, ticks: Any, _kind: int | None) -> int | None:
    """Be called in a running guest when the engine's epoch has moved on: go on until the next tick, or end the guest.

    Python handles signals meanwhile: a Ctrl-C that came while the main thread was inside the guest is raised here.
    """
    try:
        ticks[0] = 1
        cell = _cells[number]()
        if cell is not None and cell.instance.limit is not None:
            cell.instance.limit.check()
        ticker.hear_inside()  # last, for what ticks meanwhile isn't noticed
        return None
    except BaseException as error:
        return _failed(number, error, _interruption)


def close_cells() -> None:
    """Free every store that no call is in, for the interpreter's exit."""
    for cell in [ref() for ref in list(_cells.values())]:
        try:
            if cell is not None:
                cell.close()
        except ConcurrentUseError:
            continue


# One C callback for all host functions of all stores: it lives as long as the process, so none can outlive its code.
_callback = _capi.HostCallback(_enter_host)
_epoch_callback = _capi.EpochCallback(_look_up)


def _forget(number: int | None) -> None:
    _objects.pop(number or 0, None)


_forget_callback = _capi.Finalizer(_forget)


class Cell:
    """Own one store."""

    __slots__ = (
        "__weakref__",
        "_number",
        "context",
        "engine",
        "gate",
        "handlers",
        "instance",
        "pending",
        "stale",
        "store",
    )

    def __init__(self, engine: WasmtimeEngine, instance: WasmtimeInstance) -> None:
        self.engine = engine
        self.instance = instance
        self.store = wasmtime.Store(engine.native)
        self.context = _capi.context_of(self.store)
        self.gate = Gate()
        self.pending: BaseException | None = None
        """What a host function raised, or what ended the guest, until the guest call has unwound."""
        self.stale = False
        self.handlers: dict[int, Callable[[int], int | None]] = {}
        store = ctypes.cast(self.store.ptr(), ctypes.c_void_p).value
        number = self._number = next(_numbers)
        _cells[number] = weakref.ref(self, partial(_cells.pop, number))
        if engine.interrupts:
            # The deadline is always the next tick: a call needs no setting up, and what isn't ticked is never asked.
            _capi.epoch_callback(store, _epoch_callback, number, None)
            _capi.set_epoch_deadline(self.context, 1)
        limits = instance.limits
        if limits.memory_bytes is not None or limits.table_elements is not None:
            bounds = [-1 if bound is None else bound for bound in (limits.memory_bytes, limits.table_elements)]
            _capi.store_limiter(store, *bounds, -1, -1, -1)

    def add_host_function(self, native_type: int, handler: Callable[[int], int | None], extern: int) -> None:
        """Make a host function of the native type at `native_type` and write it to the extern at `extern`."""
        number = self._number << _SHIFT | len(self.handlers)
        self.handlers[number] = handler
        _capi.func_new_unchecked(self.context, native_type, _callback, number, None, extern)

    def root(self, value: object, ref: int) -> None:
        """Make a rooted externref of `value` at `ref`; the caller unroots it."""
        number = next(_numbers)
        _objects[number] = value
        if not _capi.externref_new(self.context, number, _forget_callback, ref):
            del _objects[number]
            raise EngineError("wasmtime couldn't allocate an externref: its garbage-collected heap is full")

    def object_of(self, ref: int) -> Any:
        """Give the Python object behind the externref at `ref`; raise where that's the guest's own (``extern.convert_any``)."""
        number = _capi.externref_data(self.context, ref)
        if not number:
            raise HostResultError(
                "the guest gave a garbage-collected object as an externref, which can't leave it: such objects stay inside"
            )
        return _objects.get(number)

    def is_host_object(self, ref: int) -> bool:
        """Tell whether there's a Python object behind the externref at `ref`, and no object of the guest's own."""
        return bool(_capi.externref_data(self.context, ref))

    def check_reentry(self) -> None:
        """Raise unless the calling thread is inside a host function that this cell's guest called."""
        if self.stale:
            raise DeadHandleError("this function's instance was closed or replaced; fetch the function again")
        self.gate.check_reentry()

    def close(self) -> None:
        """Free the store; raise `ConcurrentUseError` while a call is inside."""
        if self.stale:
            return
        try:
            del self.gate.token[0]
        except IndexError:
            raise ConcurrentUseError("can't close this instance: a call is running in it") from None
        self.stale = True
        # Not `Store.close`: an exception between its deleting and forgetting the pointer has it deleted twice.
        _capi.delete_store(self.store)
        self.handlers.clear()
