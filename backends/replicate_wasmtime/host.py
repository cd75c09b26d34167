"""Host functions: what runs between the guest's call of an import and the Python function behind it."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING, Any

from replicate.errors import ArgumentError, HostResultError
from replicate.linking import LinkedFunction
from replicate.values import bits_to_value, split_results, value_to_bits

from . import _capi
from .calls import from_slot, to_slot
from .shapes import Shape, decode_bits

if TYPE_CHECKING:
    from .instance import WasmtimeInstance

__all__ = ["host_handler"]


def host_handler(instance: WasmtimeInstance, linked: LinkedFunction, shape: Shape) -> Callable[[int], int | None]:
    """Give the handler that gets the address of the values array; what it raises ends the guest's call."""
    gate = instance.cell.gate
    fn, caller, name = linked.fn, linked.caller, linked.name
    array = ctypes.c_char * max(shape.size, 16)
    at = array.from_address
    unpack, pack = shape.unpack_params, shape.pack_results
    results = shape.type.results
    single = len(results) == 1

    def handle(address: int) -> int | None:
        outer = gate.host_thread
        try:
            gate.host_thread = get_ident()
            raw = at(address)
            args = unpack(raw) if shape.plain else _read(instance, shape, raw.raw)
            value = fn(instance.guest, *args) if caller else fn(*args)
            if instance.limit is not None:
                instance.limit.check()
            if shape.plain:
                try:
                    if single:
                        pack(raw, 0, value)
                        return None
                    if not results and value is None:
                        return None
                    if type(value) is tuple and len(value) == len(results):
                        pack(raw, 0, *value)
                        return None
                except (struct.error, OverflowError, TypeError):
                    pass
            slots = _write(instance, shape, value, name)
            ctypes.memmove(address, slots, len(slots))
            return None
        finally:
            gate.host_thread = outer

    return handle


def _read(instance: WasmtimeInstance, shape: Shape, slots: bytes) -> tuple[Any, ...]:
    return tuple(
        bits_to_value(decode_bits(slots[16 * position :], kind), kind)
        if kind.is_number
        else from_slot(instance, slots[16 * position : 16 * position + 16], kind)
        for position, kind in enumerate(shape.type.params)
    )


def _write(instance: WasmtimeInstance, shape: Shape, value: Any, name: str) -> bytes:
    values = split_results(name, shape.type, value)
    roots: list[Any] = []
    try:
        slots = []
        for (kind, accepted), item in zip(shape.results, values, strict=True):
            what = f"the result of host function {name}"
            bits = value_to_bits(item, kind, what=what) if kind.is_number else item
            slots.append(to_slot(instance, bits, kind, accepted, roots, what=what))
        return b"".join(slots)
    except ArgumentError as error:
        raise HostResultError(str(error)) from error
    finally:
        for root in roots:
            _capi.val_unroot(ctypes.addressof(root))
