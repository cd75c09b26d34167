"""What a host gives a module to import: functions, memories, tables and globals.

Imports are a mapping ``{module: {name: value}}``. A value is

- for a function, any callable (it takes the type that the module declares), a `HostFunction`, or a `Companion`'s;
- for a global, a Python number, a `HostGlobal`, or None for a null reference;
- for a memory or a table, a `HostMemory` or `HostTable`. Both may be left out: they are then made with the limits the
  module declares;
- for an exception tag, nothing: it's made as declared.

Nothing here is shared between instances: every instance gets a memory, table and global of its own, which are part of
its state like the ones it defines itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import attrs

__all__ = [
    "Companion",
    "CompanionFunction",
    "HostFunction",
    "HostGlobal",
    "HostMemory",
    "HostTable",
    "ImportValue",
    "Imports",
]


def _names(value: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(value)


@attrs.frozen
class HostFunction:
    """Give a guest a Python function to call.

    `params` and `results` are value types in WAT spelling (``"i32"``); left out, they are what the module declares, and
    given, they are checked against it. With ``caller=True`` the function gets the calling guest's handle as its first
    argument: its memory, its `state`, its exports. With ``legalised=True`` a module may also declare two i32 for each i64 in
    `params`, the lower half first, as Emscripten does without BigInt; the function gets them joined.

    The function gets i32 and i64 arguments as signed Python ints, f32 and f64 as floats, v128 as an int of 128 bits, and
    references as described in `replicate.values`. It returns nothing, one value, or a tuple. An exception it raises ends
    the guest's call and reaches the caller of that call as it was.

    In a pool with worker processes the function runs in the pool's own process, which costs a question and an answer between
    the two. With ``in_worker=True`` it runs beside the guest: it has to be defined at the top of a module, which each worker
    imports for itself, with globals of its own.

    Hazard: a host function that changes anything but the guest, by a database insert for instance, isn't undone when the
    write it belongs to rolls back; and replicas run it too.
    """

    fn: Callable[..., Any]
    params: tuple[str, ...] | None = attrs.field(default=None, kw_only=True, converter=_names)
    results: tuple[str, ...] | None = attrs.field(default=None, kw_only=True, converter=_names)
    caller: bool = attrs.field(default=False, kw_only=True)
    legalised: bool = attrs.field(default=False, kw_only=True)
    in_worker: bool = attrs.field(default=False, kw_only=True)


@attrs.frozen(eq=False)
class Companion:
    """Give a guest functions that are Wasm themselves and work on its memory: no Python runs when the guest calls them.

    `source`, binary or WAT text, is a module of which each instance of the guest gets an instance beside it. It may import
    from ``"guest"`` what the guest exports, its memory and functions; from ``"host"`` the Python functions in `imports`; and
    from ``"wasi_snapshot_preview1"`` the engine's own functions, which look for their caller's export ``"memory"``.
    `function` names one of its exports as an import of the guest.

    Hazard: what a companion keeps in memories and globals of its own is no part of the guest's state. It isn't rolled back
    or replicated, so it mustn't matter from one call of the host to the next.
    """

    source: bytes | str
    imports: Mapping[str, Callable[..., Any] | HostFunction] = attrs.field(factory=dict)

    def function(self, name: str, fallback: Callable[..., Any] | HostFunction) -> CompanionFunction:
        """Give the exported function `name` as an import; engines without `EngineTraits.companions` call `fallback`."""
        return CompanionFunction(self, name, fallback if isinstance(fallback, HostFunction) else HostFunction(fallback))


@attrs.frozen
class CompanionFunction:
    """Be a function of a `Companion`, as an import."""

    companion: Companion
    name: str
    fallback: HostFunction


@attrs.frozen
class HostGlobal:
    """Give a guest a global with this initial `value`; its type and mutability are what the module declares."""

    value: Any


@attrs.frozen
class HostMemory:
    """Give a guest a linear memory of `minimum` Wasm pages, growable to `maximum` (None: what the module declares)."""

    minimum: int
    maximum: int | None = attrs.field(default=None, kw_only=True)


@attrs.frozen
class HostTable:
    """Give a guest a table of `minimum` null elements, growable to `maximum` (None: what the module declares)."""

    minimum: int
    maximum: int | None = attrs.field(default=None, kw_only=True)


ImportValue: TypeAlias = (
    "Callable[..., Any] | HostFunction | CompanionFunction | HostGlobal | HostMemory | HostTable | int | float | None"
)
Imports: TypeAlias = "Mapping[str, Mapping[str, ImportValue]]"
