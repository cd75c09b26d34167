"""Translate wasmer's errors, which are told apart by their text, into this library's."""

from __future__ import annotations

import re

from replicate.errors import EngineError, Frame, InstantiationError, Trap, TrapCode

__all__ = ["call_fault", "instantiation_fault"]

_PREFIX = "RuntimeError: "
_CODES = {
    **{code.value: code for code in TrapCode if code is not TrapCode.OTHER},
    "undefined element: out of bounds table access": TrapCode.TABLE_OUT_OF_BOUNDS,
    "misaligned memory access": TrapCode.HEAP_MISALIGNED,
}
_FRAME = re.compile(r"^    at (.*) \(.*\[(\d+)\]:0x([0-9a-f]+)\)$", re.MULTILINE)
_MOST_FRAMES = 1000
_SHOWN_FRAMES = 16


def call_fault(error: BaseException) -> BaseException:
    """Give the exception for a guest call that failed, given that no host function raised: a `Trap` in most cases."""
    if type(error) is RuntimeError:  # and not a RecursionError, for instance
        return _trap(str(error)) or EngineError(f"wasmer refused: {error}")
    return _panic(error) or error


def instantiation_fault(error: BaseException) -> BaseException:
    """Give the exception for an instantiation that failed: a `Trap` for a segment that doesn't fit."""
    if type(error) is RuntimeError:
        return _trap(str(error)) or InstantiationError(f"wasmer refused: {error}")
    return _panic(error) or error


def _panic(error: BaseException) -> EngineError | None:
    """Turn a panic, which isn't even an `Exception`, into an error that can be handled."""
    if type(error).__name__ == "PanicException":
        return EngineError(f"wasmer panicked: {error}")
    return None


def _trap(text: str) -> Trap | None:
    reason, _, _ = text.removeprefix(_PREFIX).partition("\n")
    code = _CODES.get(reason)
    if code is None and not text.startswith(_PREFIX):
        return None
    frames = []
    for found in _FRAME.finditer(text):
        name = None if found[1] == "<unnamed>" else found[1]
        frames.append(Frame(int(found[2]), name, int(found[3], 16)))
        if len(frames) == _MOST_FRAMES:
            break
    lines = [f"the guest trapped: {code.value if code is not None else reason}"]
    lines += [
        f"  at {frame.function_name or 'function'} (index {frame.function_index}, module offset {frame.module_offset:#x})"
        for frame in frames[:_SHOWN_FRAMES]
    ]
    if len(frames) > _SHOWN_FRAMES:
        lines.append(f"  ... {len(frames) - _SHOWN_FRAMES} more frames")
    return Trap("\n".join(lines), code=code or TrapCode.OTHER, frames=frames)
