"""Host functions: what runs between the guest's call of an import and the Python function behind it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING, Any

from replicate.errors import ArgumentError, HostResultError
from replicate.linking import LinkedFunction
from replicate.values import bits_to_value, split_results, value_to_bits

from .shapes import Shape

if TYPE_CHECKING:
    from .instance import WasmerInstance

__all__ = ["host_handler"]


def host_handler(instance: WasmerInstance, linked: LinkedFunction, shape: Shape) -> Callable[..., Any]:
    """Give the handler that gets the guest's arguments; what it raises ends the guest's call."""
    gate = instance.cell.gate
    fn, caller, name = linked.fn, linked.caller, linked.name
    results, plain = shape.type.results, shape.plain
    pack, unpack = shape.pack_results, shape.unpack_results
    single = len(results) == 1

    def handle(*args: Any) -> Any:
        outer = gate.host_thread
        try:
            gate.host_thread = get_ident()
            value = fn(instance.guest, *args) if caller else fn(*args)
            if instance.limit is not None:
                instance.limit.check()
            if not results and value is None:
                return None
            if plain:
                try:
                    if single:
                        return unpack(pack(value))[0]
                    if type(value) is tuple and len(value) == len(results):
                        return unpack(pack(*value))
                except (struct.error, OverflowError, TypeError):
                    pass
            return _checked(shape, value, name)
        finally:
            gate.host_thread = outer

    return handle


def _checked(shape: Shape, value: Any, name: str) -> Any:
    kinds, values = shape.type.results, split_results(name, shape.type, value)
    what = f"the result of host function {name}"
    try:
        given = tuple(
            bits_to_value(value_to_bits(item, kind, what=what), kind) for kind, item in zip(kinds, values, strict=True)
        )
    except ArgumentError as error:
        raise HostResultError(str(error)) from error
    return given[0] if len(given) == 1 else given or None
