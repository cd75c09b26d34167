"""Translate wasmtime's traps and errors into this library's."""

from __future__ import annotations

import re

import wasmtime

from replicate.errors import EngineError, Frame, InvalidModuleError, Trap, TrapCode, UnsupportedError

from . import _capi

__all__ = ["engine_error", "module_refusal", "trap_error"]

# How wasmtime 50's validator (wasmparser) and its compiler say that a proposal is off or a limit of theirs is passed. Not
# "constant expression required: ...", "data count section required", nor "memory size must be at most ...", which no valid
# module gets to hear.
_UNSUPPORTED = re.compile(
    r"required for |be enabled|not enabled|disabled|disallowed|requires? the [\w-]+ proposal|without the [\w -]+ feature"
    r"|(?:not|n't) (?:yet )?(?:supported|implemented|compatible)|unsupported|multiple (?:memories|tables)"
    r"|exceeds limit of|implementation limit",
    re.IGNORECASE,
)
# What wasmtime says of encodings that no proposal it knows has.
_UNKNOWN = re.compile(
    r"malformed section id|subopcode|illegal opcode|invalid (?:value type|leading byte|abstract heap type|external kind)"
)
_QUOTED = re.compile("`[^`]*`")  # names of exports, which say anything
_REMEDIES = {
    "legacy_exceptions": (
        "it has legacy exception handling, which binaryen converts: "
        "wasm-opt --all-features --translate-to-exnref in.wasm -o out.wasm"
    )
}

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


def module_refusal(error: wasmtime.WasmtimeError) -> InvalidModuleError | UnsupportedError:
    """Tell why wasmtime doesn't take a module: it's invalid, or wasmtime can't run it."""
    message = " ".join(str(error).split())
    reason = _QUOTED.sub("", message)
    if _UNSUPPORTED.search(reason):
        remedies = [f"; {remedy}" for sign, remedy in _REMEDIES.items() if sign in reason]
        return UnsupportedError(f"wasmtime doesn't run this module: {message}{''.join(remedies)}")
    if _UNKNOWN.search(reason):
        return InvalidModuleError(f"the module isn't valid Wasm, or of a proposal unknown to wasmtime: {message}")
    return InvalidModuleError(f"the module isn't valid Wasm: {message}")
