"""Every error this library raises, under one base class.

A message says what happened, with which value, and what to do next. Foreign errors (a runtime's own exceptions,
`OSError`) are translated here by whoever meets them and chained with ``from``. Exceptions raised by a user's own code
(a host function, the callable given to `Pool.write`) are never wrapped: they reach the caller as they were.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any

import attrs

__all__ = [
    "AdapterError",
    "ArgumentError",
    "ArgumentRangeError",
    "ArgumentTypeError",
    "ArityError",
    "CacheError",
    "CallError",
    "ChecksumError",
    "ComponentError",
    "ConcurrentUseError",
    "DeadHandleError",
    "EngineError",
    "EngineUnavailableError",
    "Finding",
    "Frame",
    "GuestExit",
    "GuestInterruptedError",
    "GuestTimeoutError",
    "HostResultError",
    "ImportTypeError",
    "InstantiationError",
    "InvalidModuleError",
    "MemoryAccessError",
    "MissingExportError",
    "MissingImportError",
    "ModuleError",
    "NestedTransactionError",
    "NotReplicableError",
    "PoolClosedError",
    "PoolError",
    "PoolForkedError",
    "PoolOptionError",
    "PoolTimeoutError",
    "ReplicateError",
    "ReplicateWarning",
    "SnapshotError",
    "SnapshotFormatError",
    "SnapshotMismatchError",
    "StateError",
    "TableAccessError",
    "ThreadBoundError",
    "Trap",
    "TrapCode",
    "UnknownAdapterError",
    "UnknownEngineError",
    "UnsupportedError",
    "WasiError",
    "WorkerDiedError",
    "WorkerError",
]


def _rebuild(kind: type[BaseException], args: tuple[Any, ...], fields: dict[str, Any]) -> BaseException:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(fields)
    return error


class ReplicateError(Exception):
    """Be the base of every error of this library. All of them can be pickled, whatever their constructors take."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


class ReplicateWarning(UserWarning):
    """Warn that something works, but not as well as it could."""


# -- engines and adapters ------------------------------------------------------------------------------------------


class EngineError(ReplicateError):
    """Report a Wasm runtime that can't be used, or that failed in a way that isn't the guest's doing."""


class UnknownEngineError(EngineError, LookupError):
    """Report an engine name that nothing installed has registered."""


class EngineUnavailableError(EngineError, ImportError):
    """Report an engine that is registered but whose runtime can't be imported here."""


class UnsupportedError(EngineError, NotImplementedError):
    """Report something the module asks for that this engine (see its traits) or this library can't do."""


class WorkerError(EngineError):
    """Report an exception of a worker process that can't be brought here as it is, with its text."""


class WorkerDiedError(WorkerError):
    """Report a worker process that ended by itself, or was killed, during this read or write.

    The pool goes on with another one; a write that gets this hasn't happened.
    """


class AdapterError(ReplicateError):
    """Report an adapter that can't prepare its guest."""


class UnknownAdapterError(AdapterError, LookupError):
    """Report an adapter name that nothing installed has registered."""


class CacheError(ReplicateError):
    """Report a module that can't be fetched into, or read from, the cache folder."""


class ChecksumError(CacheError):
    """Report a fetched or given file whose SHA-256 isn't the pinned one."""


# -- modules and instances -----------------------------------------------------------------------------------------


class ModuleError(ReplicateError):
    """Report a module that can't be compiled or instantiated."""


class InvalidModuleError(ModuleError, ValueError):
    """Report bytes that aren't a valid core Wasm module: not Wasm, truncated, malformed or failing validation."""


class ComponentError(InvalidModuleError):
    """Report a component-model binary; only core modules can be replicated."""


class MissingImportError(ModuleError, LookupError):
    """Report imports that the module needs and nobody gave."""


class ImportTypeError(ModuleError, TypeError):
    """Report an import whose value doesn't fit what the module declares."""


class InstantiationError(ModuleError):
    """Report an instantiation that the engine refused, out of memory or over its limits for instance."""


class MissingExportError(ModuleError, LookupError):
    """Report an export (function, memory, global or table) that the module doesn't have."""


# -- calls ---------------------------------------------------------------------------------------------------------


class CallError(ReplicateError):
    """Report a guest call that didn't return."""


class ArgumentError(CallError):
    """Report arguments that don't fit the function's type; the guest wasn't entered."""


class ArityError(ArgumentError, TypeError):
    """Report too few or too many arguments."""


class ArgumentTypeError(ArgumentError, TypeError):
    """Report an argument of a Python type that the parameter can't take."""


class ArgumentRangeError(ArgumentError, ValueError):
    """Report an argument that doesn't fit the parameter's width."""


class HostResultError(CallError, TypeError):
    """Report a host function whose result doesn't fit its declared type, or a guest's value that can't leave it."""


class ConcurrentUseError(CallError, RuntimeError):
    """Report a second thread entering an instance while the first is still inside."""


class ThreadBoundError(ConcurrentUseError):
    """Report an instance used on another thread than the one that made it, on an engine that can't do that."""


class TrapCode(enum.Enum):
    """Name the reason of a trap, in the words of the Wasm specification."""

    STACK_OVERFLOW = "call stack exhausted"
    MEMORY_OUT_OF_BOUNDS = "out of bounds memory access"
    HEAP_MISALIGNED = "unaligned atomic"
    TABLE_OUT_OF_BOUNDS = "out of bounds table access"
    INDIRECT_CALL_TO_NULL = "uninitialized element"
    BAD_SIGNATURE = "indirect call type mismatch"
    INTEGER_OVERFLOW = "integer overflow"
    INTEGER_DIVISION_BY_ZERO = "integer divide by zero"
    BAD_CONVERSION_TO_INTEGER = "invalid conversion to integer"
    UNREACHABLE = "unreachable"
    INTERRUPT = "interrupted"
    OUT_OF_FUEL = "out of fuel"
    NULL_REFERENCE = "null reference"
    ARRAY_OUT_OF_BOUNDS = "out of bounds array access"
    ALLOCATION_TOO_LARGE = "allocation too large"
    CAST_FAILURE = "cast failure"
    UNCAUGHT_EXCEPTION = "uncaught exception"
    OTHER = "trap"


@attrs.frozen
class Frame:
    """Locate one frame of a guest's call stack, innermost first in `Trap.frames`."""

    function_index: int
    function_name: str | None
    module_offset: int | None


class Trap(CallError):
    """Report that the guest trapped.

    `code` names the reason; `frames` is the Wasm call stack, innermost first (empty where the engine can't tell).
    """

    def __init__(self, message: str, *, code: TrapCode = TrapCode.OTHER, frames: Iterable[Frame] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.frames: tuple[Frame, ...] = tuple(frames)


class GuestExit(CallError):
    """Report that the guest ended itself with WASI's `proc_exit`; `code` is its exit status.

    Status 0 is an exit too: what the guest had still to do hasn't been done, so a write that exits is rolled back.
    """

    def __init__(self, code: int) -> None:
        super().__init__(f"the guest called proc_exit({code})")
        self.code = code


class GuestInterruptedError(CallError):
    """Report a guest that was stopped: its transaction was cancelled."""


class GuestTimeoutError(GuestInterruptedError, TimeoutError):
    """Report a guest that was stopped, or a transaction that ended too late, because its timeout had passed."""


class WasiError(ReplicateError):
    """Report a WASI configuration that can't be honoured (a folder that doesn't exist, a name with a zero byte)."""


# -- handles -------------------------------------------------------------------------------------------------------


class MemoryAccessError(ReplicateError, IndexError):
    """Report an offset or length outside the guest's memory; nothing was read or written."""


class TableAccessError(ReplicateError, IndexError):
    """Report an index outside the guest's table; nothing was read or written."""


class DeadHandleError(ReplicateError, RuntimeError):
    """Report a guest handle used after its transaction ended or its instance was closed (promise P6)."""


class StateError(ReplicateError, TypeError):
    """Report a host-side `state` value that isn't plain data and so can't be replicated."""


# -- replication ---------------------------------------------------------------------------------------------------


@attrs.frozen
class Finding:
    """Say what part of a guest's state can't be carried to a replica, and why."""

    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


class NotReplicableError(ReplicateError):
    """Report state that can't be carried to a replica bit for bit; `findings` lists every part (promise P1)."""

    def __init__(self, findings: Iterable[Finding], *, what: str = "this module can't be replicated") -> None:
        self.findings: tuple[Finding, ...] = tuple(findings)
        super().__init__("\n  - ".join([f"{what}:", *map(str, self.findings)]))


class SnapshotError(ReplicateError):
    """Report a snapshot that can't be taken, read or restored."""


class SnapshotFormatError(SnapshotError, ValueError):
    """Report bytes that aren't a snapshot of this format, or that are damaged."""


class SnapshotMismatchError(SnapshotError, ValueError):
    """Report a snapshot of another module."""


# -- pools ---------------------------------------------------------------------------------------------------------


class PoolError(ReplicateError):
    """Report a pool that can't do what was asked."""


class PoolOptionError(PoolError, ValueError):
    """Report an option that a pool can't be opened with, or a number of replicas that it can't have."""


class PoolClosedError(PoolError, RuntimeError):
    """Report a pool used after `close`."""


class PoolTimeoutError(PoolError, TimeoutError):
    """Report that no replica, or not the leader, came free in time."""


class NestedTransactionError(PoolError, RuntimeError):
    """Report a transaction opened inside another one of the same pool, on the same thread or task (promise P9)."""


class PoolForkedError(PoolError, RuntimeError):
    """Report a pool used in a child process of `os.fork`; open the pool after forking (promise P11)."""
