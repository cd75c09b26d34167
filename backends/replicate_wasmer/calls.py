"""Guest calls: wasmer's own, made safe.

wasmer drops surplus arguments, panics on references and on other threads, takes floats only where an f32 or f64 is wanted,
and rounds through them: an f32's bits cross through functions that were added to the module for that.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from replicate.errors import ArityError
from replicate.interfaces import refuse_references
from replicate.values import bits_to_value, check_bits, explain_arguments

from .cell import here
from .shapes import Shape

if TYPE_CHECKING:
    from .instance import WasmerInstance

__all__ = ["bind_function", "call_with_bits"]


def bind_function(instance: WasmerInstance, name: str, shape: Shape, slot: list[Any]) -> Callable[..., Any]:
    """Give a callable for wasmer's function in `slot`."""
    cell = instance.cell
    thread, token = cell.token, cell.gate.token
    pack, unpack, plain = shape.pack_params, shape.unpack_params, shape.plain

    def explained(args: tuple[Any, ...]) -> tuple[Any, ...]:
        if shape.has_references:
            raise refuse_references(instance.module.engine, f"{name!r} is {shape.type}")
        return tuple(shape.params_from_bits(explain_arguments(name, shape.type, args)))

    def run(args: tuple[Any, ...]) -> Any:
        if plain:
            try:
                values = unpack(pack(*args))
            except (struct.error, OverflowError, TypeError):
                values = explained(args)
        else:
            values = explained(args)
        try:
            return slot[0](*values)
        except BaseException as error:
            fault = cell.fault(error)
            instance.note_cut(fault)
            if fault is error:
                raise
            raise fault from error

    def call(*args: Any) -> Any:
        if here.token is not thread:
            raise cell.wrong_thread()
        try:
            del token[0]
        except IndexError:
            cell.check_reentry()
            return run(args)
        try:
            return run(args)
        finally:
            token.append(None)

    return call


def call_with_bits(instance: WasmerInstance, name: str, shape: Shape, bits: tuple[Any, ...]) -> Any:
    """Call with numbers as unsigned bit patterns, both ways."""
    kind = shape.type
    if len(bits) != len(kind.params):
        raise ArityError(f"{name!r} takes {len(kind.params)} argument(s) {kind}, and got {len(bits)}")
    if shape.has_references:
        raise refuse_references(instance.module.engine, f"{name!r} is {kind}")
    checked = [
        check_bits(value, param, what=f"argument {position} of {name!r}")
        for position, (value, param) in enumerate(zip(bits, kind.params, strict=True), 1)
    ]
    exact = instance.module.exact_export(name)
    if exact is None:
        return shape.results_to_bits(instance.function(name)(*shape.params_from_bits(checked)))
    passed = instance.module.export_shape(exact)
    values = [bits_to_value(one, param) for one, param in zip(checked, passed.type.params, strict=True)]
    return passed.results_to_bits(instance.function(exact)(*values))
