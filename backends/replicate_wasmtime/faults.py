"""Translate wasmtime's traps and errors into this library's."""

from __future__ import annotations

import wasmtime

from replicate.errors import EngineError, Frame, Trap, TrapCode

from . import _capi

__all__ = ["engine_error", "trap_error"]

_UNCAUGHT = "thrown Wasm exception"  # wasmtime has no code for it


def trap_error(address: int) -> Trap:
    """Turn the trap at `address`, which it takes over, into a `Trap` with its code and Wasm call stack."""
    trap = _capi.take_trap(address)
    try:
        native = trap.trap_code
    except ValueError:
        native = None
    code = TrapCode.__members__.get(native.name, TrapCode.OTHER) if native is not None else TrapCode.OTHER
    frames = tuple(_frame(frame) for frame in trap.frames)
    words = trap.message.strip().splitlines()[-1:] if native is None else [native.name.lower().replace("_", " ")]
    reason = words[0].strip() if words else ""
    if native is None and reason == _UNCAUGHT:
        code = TrapCode.UNCAUGHT_EXCEPTION
    if code is not TrapCode.OTHER:
        reason = code.value
    lines = [f"the guest trapped: {reason}"]
    lines += [
        f"  at {frame.function_name or 'function'} (index {frame.function_index}"
        + (f", module offset {frame.module_offset:#x})" if frame.module_offset is not None else ")")
        for frame in frames[:16]
    ]
    if len(frames) > 16:
        lines.append(f"  ... {len(frames) - 16} more frames")
    return Trap("\n".join(lines), code=code, frames=frames)


def _frame(frame: wasmtime.Frame) -> Frame:
    offset = frame.module_offset
    return Frame(frame.func_index, frame.func_name, offset if 0 <= offset < 0xFFFFFFFF else None)


def engine_error(address: int) -> EngineError:
    """Turn the error at `address`, which it takes over, into an `EngineError`."""
    return EngineError(f"wasmtime refused: {_capi.take_error(address)}")
