"""An instance's state as a host sees it through the engine's primitives, apart from how snapshots are taken."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any

import attrs

from replicate.binary import ModuleInfo
from replicate.binary.module import describe
from replicate.errors import ReplicateError, Trap
from replicate.interfaces import Instance, LiveReference
from replicate.memory_runs import PAGE
from replicate.plaindata import encode_plain
from replicate.testing.random_calls import describe_value

__all__ = ["DAMAGES", "Damage", "Observation", "damage", "observe"]

_MOST_DAMAGED_PAGES = 4096
_MOST_DIFFERENCES = 20


@attrs.frozen
class Observation:
    """Hold all of an instance's state at one moment, to be compared."""

    info: ModuleInfo = attrs.field(eq=False, repr=False)
    memories: tuple[bytes, ...] = attrs.field(repr=False)
    globals: tuple[tuple[int, Any], ...]
    tables: tuple[tuple[int, tuple[Any, ...]], ...]
    dropped: tuple[str, ...]
    host: bytes

    def differences(self, other: Observation) -> list[str]:
        """Say in the module's terms where two states differ: this one's value first; empty if they're equal."""
        if self == other:
            return []
        found = list(self._differences(other))
        return found[:_MOST_DIFFERENCES] + ["..."] * (len(found) > _MOST_DIFFERENCES)

    def _differences(self, other: Observation) -> Iterator[str]:
        labels = {kind: self.info.labels(kind) for kind in ("memory", "global", "table")}
        for index, (one, two) in enumerate(zip(self.memories, other.memories, strict=True)):
            place = describe("memory", index, labels["memory"].get(index))
            if len(one) != len(two):
                yield f"{place}: {len(one)} bytes | {len(two)} bytes"
            if one != two:
                yield from _byte_differences(place, one, two)
        for (index, value), (_, changed) in zip(self.globals, other.globals, strict=True):
            if value != changed:
                kind = self.info.globals[index].value
                place = describe("global", index, labels["global"].get(index))
                yield f"{place}: {describe_value(value, kind)} | {describe_value(changed, kind)}"
        for (index, elements), (_, others) in zip(self.tables, other.tables, strict=True):
            place = describe("table", index, labels["table"].get(index))
            if len(elements) != len(others):
                yield f"{place}: {len(elements)} elements | {len(others)} elements"
            for at, (element, changed) in enumerate(zip(elements, others, strict=False)):
                if element != changed:
                    yield f"element {at} of {place}: {_reference(element)} | {_reference(changed)}"
        for segment in sorted({*self.dropped} ^ {*other.dropped}):
            words = ("dropped", "there") if segment in self.dropped else ("there", "dropped")
            yield f"{segment}: {words[0]} | {words[1]}"
        if self.host != other.host:
            yield f"host-side state: {len(self.host)} bytes | {len(other.host)} bytes, encoded"


def _byte_differences(place: str, one: bytes, two: bytes) -> Iterator[str]:
    for page in range(0, min(len(one), len(two)), PAGE):
        left, right = one[page : page + PAGE], two[page : page + PAGE]
        if left != right:
            at = next(at for at, pair in enumerate(zip(left, right, strict=False)) if pair[0] != pair[1])
            yield f"{place} at {page + at:#x}: {left[at : at + 8].hex(' ')} | {right[at : at + 8].hex(' ')}"


def _reference(value: Any) -> str:
    return "null" if value is None else f"function {value}" if isinstance(value, int) else str(value)


def observe(instance: Instance) -> Observation:
    """Look at all of an instance's state. Costs a copy of its memories; raises `StateError` for host state that isn't plain."""
    plan = instance.plan
    return Observation(
        info=instance.module.info,
        memories=tuple(bytes(instance.memory_view(slot.index)) for slot in plan.memories),
        globals=tuple(
            (
                slot.index,
                instance.global_bits(slot.index)
                if slot.type.value.is_number
                else _seen(instance.global_reference(slot.index)),
            )
            for slot in plan.globals
        ),
        tables=tuple((slot.index, tuple(map(_seen, instance.table_references(slot.index)))) for slot in plan.tables),
        dropped=tuple(slot.describe for slot in plan.segments if _is_gone(instance, slot.probe)),
        host=encode_plain(instance.state),
    )


def _seen(reference: Any) -> Any:
    return reference.reason if isinstance(reference, LiveReference) else reference


def _is_gone(instance: Instance, probe: str) -> bool:
    try:
        instance.call(probe)
    except Trap:
        return True
    return False


class Damage(enum.Flag):
    """Name what `damage` changes besides the content of memories, globals and tables: what can't be undone in place."""

    CONTENT = 0
    MEMORY_SIZE = enum.auto()
    TABLE_SIZE = enum.auto()
    SEGMENTS = enum.auto()
    ALL = MEMORY_SIZE | TABLE_SIZE | SEGMENTS


DAMAGES = (Damage.CONTENT, Damage.MEMORY_SIZE, Damage.TABLE_SIZE, Damage.SEGMENTS, Damage.ALL)
"""Each by itself, since one that needs the instance to be rebuilt would hide what goes wrong where none is."""


def damage(instance: Instance, kind: Damage = Damage.ALL) -> None:
    """Change what can be changed in an instance: whatever isn't restored after this shows.

    A few bytes of every page of memory, every global and every element get another value, and host-side values are changed
    where they are; `kind` says what is grown or dropped. Costs some 2 us a page of 4 KiB, of at most 4096 pages.
    """
    for memory in instance.plan.memories:
        if kind & Damage.MEMORY_SIZE:
            try:
                instance.memory_grow(memory.index, 1)
            except ReplicateError:
                pass  # it's as large as it may be
        view = instance.memory_view(memory.index)
        step = max(PAGE, len(view) // _MOST_DAMAGED_PAGES // PAGE * PAGE)
        for start in {*range(0, len(view), step), max(len(view) - 8, 0)}:
            chunk = bytes(view[start : start + 8])
            view[start : start + len(chunk)] = bytes(byte ^ 0xA5 for byte in chunk)
    for slot in instance.plan.globals:
        if slot.type.value.is_number:
            # Flips bits in both halves of a vector, and keeps an even number even.
            pattern = {"i32": 0xA5A5A5A4, "f32": 0xA5A5A5A4}.get(slot.type.value.text, 0xA5A5A5A4A5A5A5A4)
            pattern |= (pattern << 64) * (slot.type.value.text == "v128")
            instance.set_global_bits(slot.index, instance.global_bits(slot.index) ^ pattern)
        elif slot.type.value.is_nullable:
            instance.set_global_reference(slot.index, None)
    for table in instance.plan.tables:
        if table.is_state:
            _damage_table(instance, table.index, grow=bool(kind & Damage.TABLE_SIZE))
    if kind & Damage.SEGMENTS:
        for segment in instance.plan.segments:
            instance.call(segment.drop)
    _damage_plain(instance.state)
    instance.state["damaged"] = True


def _damage_table(instance: Instance, index: int, *, grow: bool) -> None:
    element = instance.module.info.tables[index].element
    functions = [slot.index for slot in instance.plan.functions] if element.text == "funcref" else []
    instance.written_tables.add(index)
    for at, current in enumerate(instance.table_references(index)):
        if current is not None and element.is_nullable:
            instance.set_table_reference(index, at, None)
        elif current is None and functions:
            instance.set_table_reference(index, at, functions[at % len(functions)])
    if grow:
        try:
            instance.grow_table(index, 1)
        except ReplicateError:
            pass  # it's as large as it may be


def _damage_plain(value: Any) -> None:
    """Change lists and dicts in place, all the way down, so that a copy that isn't one shows."""
    if isinstance(value, dict):
        for item in value.values():
            _damage_plain(item)
        value["damaged"] = 0
    elif isinstance(value, list):
        for item in value:
            _damage_plain(item)
        value.append(0)
    elif isinstance(value, tuple):
        for item in value:
            _damage_plain(item)
