"""Tables and reference globals to import, which wasmer's Python package can't make: another module makes and exports them."""

from __future__ import annotations

from replicate.binary import leb
from replicate.binary.signature import HEADER
from replicate.linking import Linkage, LinkedGlobal, LinkedTable

__all__ = ["maker_of"]

_TABLE, _GLOBAL, _EXPORT = 4, 6, 7
_TABLE_KIND, _GLOBAL_KIND = b"\1", b"\3"
_REF_NULL, _END = b"\xd0", b"\x0b"


def maker_of(linkage: Linkage) -> bytes | None:
    """Write a module that exports, under its position among the imports, what wasmer can't make; None if there is no such."""
    tables: list[bytes] = []
    globals_: list[bytes] = []
    exports: list[bytes] = []
    for position, linked in enumerate(linkage.imports):
        name = leb.name(str(position))
        if isinstance(linked, LinkedTable):
            exports.append(name + _TABLE_KIND + leb.unsigned(len(tables)))
            limits = leb.unsigned(linked.type.minimum)
            if linked.type.maximum is None:
                limits = b"\0" + limits
            else:
                limits = b"\1" + limits + leb.unsigned(linked.type.maximum)
            tables.append(linked.type.element.code + limits)
        elif isinstance(linked, LinkedGlobal) and linked.type.value.is_reference:
            exports.append(name + _GLOBAL_KIND + leb.unsigned(len(globals_)))
            code = linked.type.value.code
            globals_.append(code + bytes([linked.type.mutable]) + _REF_NULL + code + _END)
    if not exports:
        return None
    sections = ((_TABLE, tables), (_GLOBAL, globals_), (_EXPORT, exports))
    encoded = [(id_, leb.vector(items)) for id_, items in sections if items]
    return HEADER + b"".join(bytes([id_]) + leb.unsigned(len(content)) + content for id_, content in encoded)
