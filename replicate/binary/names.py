"""Read the "name" custom section: advice from the module's producer on what its parts are called."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from replicate.binary.cursor import Cursor
from replicate.errors import InvalidModuleError

__all__ = ["Names", "read_names"]

_MODULE = 0
_FIELDS = {1: "functions", 5: "tables", 6: "memories", 7: "globals", 8: "elements", 9: "data", 11: "tags"}


@attrs.frozen
class Names:
    """Map indices to names, for each index space that a message may want to name."""

    module: str | None = None
    functions: Mapping[int, str] = attrs.field(factory=dict)
    tables: Mapping[int, str] = attrs.field(factory=dict)
    memories: Mapping[int, str] = attrs.field(factory=dict)
    globals: Mapping[int, str] = attrs.field(factory=dict)
    elements: Mapping[int, str] = attrs.field(factory=dict)
    data: Mapping[int, str] = attrs.field(factory=dict)
    tags: Mapping[int, str] = attrs.field(factory=dict)


def read_names(cursor: Cursor) -> Names:
    """Read the section's content; where it is malformed, return what came before."""
    module: str | None = None
    maps: dict[str, Mapping[int, str]] = {}
    try:
        while cursor.position < cursor.end:
            subsection = cursor.byte()
            content = cursor.sub(cursor.u32())
            if subsection == _MODULE:
                module = content.name()
            elif subsection in _FIELDS:
                maps[_FIELDS[subsection]] = _name_map(content)
    except InvalidModuleError:
        pass  # the specification has a malformed name section ignored
    return Names(module, **maps)


def _name_map(cursor: Cursor) -> dict[int, str]:
    names = {}
    for _ in range(cursor.count("names")):
        index = cursor.u32()
        names[index] = cursor.name()
    return names
