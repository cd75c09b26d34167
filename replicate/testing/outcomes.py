"""What a call does, as far as anybody can tell: its result or how it failed, and what it asked of the host meanwhile."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeAlias

import attrs

from replicate.binary import ModuleInfo, ValType
from replicate.errors import GuestInterruptedError, Trap, TrapCode
from replicate.imports import HostFunction, Imports
from replicate.testing.random_calls import Call, describe_value
from replicate.values import FuncRef

__all__ = ["Callee", "HostLog", "Outcome", "describe_host_calls", "perform"]

HostCall: TypeAlias = tuple[Any, ...]

_MOST_LOGGED = 1000
_ENGINE_LIMITS = (TrapCode.STACK_OVERFLOW, TrapCode.INTERRUPT, TrapCode.OUT_OF_FUEL)


class Callee(Protocol):
    """Be an instance or a guest handle: something whose exports are called by bits."""

    def call_bits(self, name: str, *bits: Any) -> Any:
        """Call an export."""


@attrs.frozen
class Outcome:
    """Say how a call ended; outcomes are equal when nobody could tell the calls apart."""

    kind: Literal["returned", "trapped", "raised", "stopped"]
    value: Any
    """The results, a `TrapCode`, or an exception's type and text."""
    host_calls: tuple[HostCall, ...] = ()
    """The calls of host functions: name, arguments, and what came of them."""

    @property
    def is_engine_limit(self) -> bool:
        """Whether a limit of the engine's own ended the call: where exactly is no part of the guest's behaviour."""
        return self.kind == "stopped" or (self.kind == "trapped" and self.value in _ENGINE_LIMITS)

    def describe(self, results: tuple[ValType, ...]) -> str:
        """Spell the outcome in a line; `results` are the function's result types."""
        if self.kind == "trapped":
            return f"trap: {self.value.value}"
        if self.kind == "raised":
            return f"{self.value[0]}: {self.value[1]}"
        if self.kind == "stopped":
            return "stopped by its timeout"
        if not results:
            return "nothing"
        return ", ".join(describe_value(value, kind) for value, kind in zip(self.value, results, strict=False))


def _plain(value: Any) -> Any:
    """Turn what crosses between guest and host into something that compares by bits and outlives the instance."""
    if value is None or type(value) in (int, bool, str, bytes):
        return value
    if isinstance(value, float):
        return struct.pack("<d", value)
    if isinstance(value, FuncRef):
        return "a foreign function" if value.index is None else f"function {value.index}"
    if isinstance(value, (tuple, list)):
        return tuple(map(_plain, value))
    return f"a {type(value).__name__}"


class HostLog:
    """Record the calls of host functions."""

    def __init__(self) -> None:
        self._calls: list[HostCall] = []
        self._count = 0

    def take(self) -> tuple[HostCall, ...]:
        """Give what was recorded since this was last called. Of very many calls the first and their number are kept."""
        calls, count = tuple(self._calls), self._count
        self._calls, self._count = [], 0
        return calls if count == len(calls) else (*calls, ("calls in all", count))

    def wrap(self, imports: Imports, info: ModuleInfo) -> dict[str, dict[str, Any]]:
        """Give the same imports, with every function that the module declares recorded here."""
        wrapped: dict[str, dict[str, Any]] = {module: dict(names) for module, names in imports.items()}
        for wanted in info.imports:
            value = wrapped.get(wanted.module, {}).get(wanted.name)
            if wanted.kind == "func" and value is not None:
                host = value if isinstance(value, HostFunction) else HostFunction(value)
                if callable(host.fn):
                    fn = self._recorded(f"{wanted.module}.{wanted.name}", host.fn, host.caller)
                    wrapped[wanted.module][wanted.name] = attrs.evolve(host, fn=fn)
        return wrapped

    def _recorded(self, name: str, fn: Callable[..., Any], caller: bool) -> Callable[..., Any]:
        def recorded(*args: Any) -> Any:
            given = _plain(args[1:] if caller else args)
            try:
                result = fn(*args)
            except BaseException as error:
                self._record((name, given, "raised", type(error).__name__))
                raise
            self._record((name, given, "returned", _plain(result)))
            return result

        return recorded

    def _record(self, call: HostCall) -> None:
        self._count += 1
        if len(self._calls) < _MOST_LOGGED:
            self._calls.append(call)


def perform(callee: Callee, call: Call, log: HostLog) -> Outcome:
    """Call, and give the outcome; only what isn't an `Exception` (Ctrl-C for instance) is raised."""
    log.take()
    try:
        value = _plain(callee.call_bits(call.name, *call.args))
    except Trap as trap:
        return Outcome("trapped", trap.code, log.take())
    except GuestInterruptedError:
        return Outcome("stopped", None, log.take())
    except Exception as error:
        return Outcome("raised", (type(error).__name__, str(error)), log.take())
    return Outcome("returned", value if isinstance(value, tuple) else (value,), log.take())


def describe_host_calls(calls: tuple[HostCall, ...]) -> str:
    """Spell recorded calls in a line."""
    return (
        "; ".join(" ".join(map(_spelled, call)) for call in calls[:5]) + ("; ..." if len(calls) > 5 else "") or "none"
    )


def _spelled(part: Any) -> str:
    if isinstance(part, bytes) and len(part) == 8:
        return repr(struct.unpack("<d", part)[0])
    if isinstance(part, tuple):
        return f"({', '.join(map(_spelled, part))})"
    return str(part)
