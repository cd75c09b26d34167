"""What random modules may use, beyond what every engine has to have."""

from __future__ import annotations

import enum
import functools

from replicate.interfaces import EngineTraits

__all__ = ["Feature", "features_of"]


class Feature(enum.Flag):
    """Name what a random module may use beyond WebAssembly 2.0, which every engine has to have."""

    NONE = 0
    MULTI_MEMORY = enum.auto()
    MEMORY64 = enum.auto()
    """64-bit memories and tables."""
    EXTENDED_CONST = enum.auto()
    TAIL_CALLS = enum.auto()
    TABLE_INITIALIZERS = enum.auto()
    """Tables that start with a function in every element (typed function references)."""
    REFERENCE_VALUES = enum.auto()
    """References as arguments and results of exports and imports."""
    CUSTOM_PAGE_SIZES = enum.auto()
    """Memories counted in bytes."""
    EXTERN_ELEMENTS = enum.auto()
    """Element segments of host references, which WebAssembly 2.0 has and not every engine."""
    ALL = (
        MULTI_MEMORY
        | MEMORY64
        | EXTENDED_CONST
        | TAIL_CALLS
        | TABLE_INITIALIZERS
        | REFERENCE_VALUES
        | CUSTOM_PAGE_SIZES
        | EXTERN_ELEMENTS
    )


def features_of(traits: EngineTraits) -> Feature:
    """Give what an engine with these traits can run. No trait promises custom page sizes: ask for them explicitly."""
    claims = {
        Feature.MULTI_MEMORY: traits.multi_memory,
        Feature.MEMORY64: traits.memory64,
        Feature.EXTENDED_CONST: traits.extended_const,
        Feature.TAIL_CALLS: traits.tail_calls,
        Feature.TABLE_INITIALIZERS: traits.gc,
        Feature.EXTERN_ELEMENTS: traits.extern_elements,
        Feature.REFERENCE_VALUES: traits.reference_values,
    }
    return functools.reduce(lambda all_, one: all_ | one, (one for one, has in claims.items() if has), Feature.NONE)
