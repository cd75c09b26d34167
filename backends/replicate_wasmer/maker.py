"""Reference globals to import, which wasmer's Python package can't make: another module makes and exports them."""

from __future__ import annotations

from replicate.binary import leb
from replicate.binary.signature import HEADER
from replicate.linking import Linkage, LinkedGlobal

__all__ = ["maker_of"]

_GLOBAL, _EXPORT = 6, 7
_GLOBAL_KIND = b"\3"
_REF_NULL, _END = b"\xd0", b"\x0b"


def maker_of(linkage: Linkage) -> bytes | None:
    """Write a module that exports null references, each under its position among the imports; None if none is imported."""
    globals_: list[bytes] = []
    exports: list[bytes] = []
    for position, linked in enumerate(linkage.imports):
        if isinstance(linked, LinkedGlobal) and linked.type.value.is_reference:
            exports.append(leb.name(str(position)) + _GLOBAL_KIND + leb.unsigned(len(globals_)))
            code = linked.type.value.code
            globals_.append(code + bytes([linked.type.mutable]) + _REF_NULL + code + _END)
    if not exports:
        return None
    sections = [(_GLOBAL, leb.vector(globals_)), (_EXPORT, leb.vector(exports))]
    return HEADER + b"".join(bytes([id_]) + leb.unsigned(len(content)) + content for id_, content in sections)
