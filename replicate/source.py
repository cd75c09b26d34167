"""Where a module comes from: bytes, WAT text, or a file of either."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from replicate.errors import InvalidModuleError

__all__ = ["read_source"]


def _looks_like_wat(text: str) -> bool:
    return text.lstrip("\ufeff \t\r\n").startswith(("(", ";;"))


def read_source(source: bytes | str | Path, wat_to_wasm: Callable[[str], bytes]) -> bytes:
    """Give the Wasm binary that `source` names or is.

    A `str` is WAT when it starts with ``(`` or ``;;`` after white space, and a path otherwise. Raises `InvalidModuleError`
    for a file that can't be read and for anything that is neither.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
    elif isinstance(source, str) and _looks_like_wat(source):
        return wat_to_wasm(source)
    elif isinstance(source, (str, Path)):
        try:
            data = Path(source).read_bytes()
        except (OSError, ValueError) as error:
            shown = str(source) if len(str(source)) <= 200 else f"{str(source)[:200]}..."
            raise InvalidModuleError(
                f"can't read the module {shown!r}: {error}; give a path, the binary as bytes, or WAT text starting with '('"
            ) from error
    else:
        raise InvalidModuleError(f"a module is given as bytes, WAT text or a path, not as {type(source).__name__}")
    if not data.startswith(b"\0asm"):
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            pass
        else:
            if _looks_like_wat(text):
                return wat_to_wasm(text)
    return data
