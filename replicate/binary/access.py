"""What an engine's host API can do by itself; where it can't, `instrument` adds functions to the module that do it."""

from __future__ import annotations

import attrs

__all__ = ["FULL_ACCESS", "HostAccess"]


@attrs.frozen(kw_only=True)
class HostAccess:
    """Say what a host can do with an instance without help from inside."""

    exact_f32: bool = True
    """An f32 crosses with every bit, as an argument, a result and the value of a global. Where it doesn't, functions are
    added that pass its bits as an i32."""
    references: bool = True
    """References cross, tables can be read, set and grown, and functions in them told apart. Where they can't, functions are
    added that do all this without any reference leaving the module."""

    imported_tables: bool = True
    """Tables can be made and given to a module. Where they can't, the module is made to define those that it imports, with
    the limits that it declares."""


FULL_ACCESS = HostAccess()
