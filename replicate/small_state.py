"""Capture and restore all of an instance's state but its memories: globals, tables, dropped segments, host values.

What the scan proved constant isn't looked at, so a module without changing tables or droppable segments pays for its
mutable globals only.
"""

from __future__ import annotations

from typing import Any

import attrs

from replicate.errors import Finding, NotReplicableError, Trap
from replicate.interfaces import Instance, LiveReference, Reference
from replicate.plaindata import copy_plain, is_same_plain

__all__ = ["SmallState", "capture", "must_rebuild", "restore"]


@attrs.frozen
class SmallState:
    """Hold captured globals, tables, dropped segments and host values."""

    globals: tuple[int | None, ...]
    """For each slot of the plan a number's bit pattern, a function's index, or None for null."""
    tables: dict[int, tuple[int | None, ...]]
    """The references in every table that the module's code or its host can change, by table index."""
    written: frozenset[int]
    """The tables that only the host can change, and has."""
    dropped: frozenset[int]
    """The places in the plan of the segments that are gone."""
    host: dict[str, Any]
    """`Instance.state`, copied."""


def capture(instance: Instance, *, known: SmallState | None = None) -> SmallState:
    """Capture an instance, or raise `NotReplicableError` listing every live reference in it.

    `known` is an earlier capture of the same instance, or what it was made equal to since: what can't have changed is taken
    from it.
    """
    plan = instance.plan
    findings: list[Finding] = []
    values: list[int | None] = []
    for slot in plan.globals:
        if slot.type.value.is_number:
            values.append(instance.global_bits(slot.index))
        else:
            values.append(_portable(instance.global_reference(slot.index), slot.describe, findings))
    tables = dict(known.tables) if known is not None else {}
    for table in plan.tables:
        if table.is_state and (known is None or instance.table_can_change(table)):
            tables[table.index] = tuple(
                _portable(reference, f"element {position} of {table.describe}", findings)
                for position, reference in enumerate(instance.table_references(table.index))
            )
    if findings:
        raise NotReplicableError(findings, what="this state can't be carried to a replica")
    gone = known.dropped if known is not None else frozenset()
    dropped = frozenset(
        position
        for position, segment in enumerate(plan.segments)
        if position in gone or is_dropped(instance, segment.probe)
    )
    unchanged = known is not None and is_same_plain(instance.state, known.host)
    host = known.host if known is not None and unchanged else copy_plain(instance.state)
    return SmallState(tuple(values), tables, frozenset(instance.written_tables), dropped, host)


def _portable(reference: Reference, place: str, findings: list[Finding]) -> int | None:
    if isinstance(reference, LiveReference):
        findings.append(Finding(place, f"it holds {reference.reason}, which means nothing in another instance"))
        return None
    return reference


def is_dropped(instance: Instance, probe: str) -> bool:
    """Tell whether a segment is gone: the probe initialises from it, one past an empty segment's end, and traps."""
    before = instance.cut_short
    try:
        instance.call(probe)
    except Trap:
        instance.cut_short = before
        return True
    return False


def must_rebuild(instance: Instance, small: SmallState) -> bool:
    """Tell whether restoring needs a fresh instance: a table must shrink or a dropped segment come back."""
    if any(instance.table_size(index) > len(small.tables[index]) for index in _tables(instance, small)):
        return True
    return any(
        position not in small.dropped and is_dropped(instance, segment.probe)
        for position, segment in enumerate(instance.plan.segments)
    )


def _tables(instance: Instance, small: SmallState) -> list[int]:
    """List the tables that may differ: the rest is as instantiation made it, here and there."""
    return [
        table.index
        for table in instance.plan.tables
        if table.index in small.tables
        and (table.changes or table.index in small.written or table.index in instance.written_tables)
    ]


def restore(instance: Instance, small: SmallState) -> None:
    """Make an instance's small state equal to `small`; `must_rebuild` said no, or the instance is fresh."""
    plan = instance.plan
    for slot, value in zip(plan.globals, small.globals, strict=True):
        if slot.type.value.is_number:
            assert value is not None
            instance.set_global_bits(slot.index, value)
        else:
            instance.set_global_reference(slot.index, value)
    for index in _tables(instance, small):
        elements = small.tables[index]
        current = instance.table_references(index)
        if current == elements:
            continue
        if len(current) < len(elements):
            # Not by nulls: a table's elements needn't be nullable.
            filler = elements[len(current)]
            missing = len(elements) - len(current)
            instance.table_grow(index, missing, filler)
            current += (filler,) * missing
        instance.written_tables.add(index)
        for position, (old, new) in enumerate(zip(current, elements, strict=True)):
            if old != new:
                instance.set_table_reference(index, position, new)
    for position, segment in enumerate(plan.segments):
        if position in small.dropped:
            instance.call(segment.drop)
    if instance.state_shared or not is_same_plain(instance.state, small.host):
        instance.state.clear()
        instance.state.update(copy_plain(small.host))
        instance.state_shared = False
