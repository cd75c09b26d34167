"""References of an instance whose engine can't touch them: read and written through functions that were added to its module.

For backends without `EngineTraits.reference_values` whose `Engine.prepare` asks for such functions (`HostAccess`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from replicate.binary import PlaceHelpers, TableHelpers
from replicate.errors import TableAccessError, Trap, UnsupportedError
from replicate.linking import LinkedGlobal, LinkedTable

if TYPE_CHECKING:
    from replicate.interfaces import Instance, Reference

__all__ = ["HelpedReferences"]

_MOST_ELEMENTS = _UNKNOWN = 0xFFFFFFFF


class HelpedReferences:
    """Do for one runtime instance what `Instance` asks of references as state; make another when it's replaced.

    Tables that the module's code never changes are never asked: what instantiation wrote there is known, and what was
    written since went through here.
    """

    def __init__(self, instance: Instance) -> None:
        helpers = instance.plan.helpers
        if helpers is None:
            raise ValueError("the module was prepared for a host that needs no help; give `prepare` an access")
        self._instance = instance
        self._helpers = helpers
        self._hand = helpers.hand
        self._known: dict[int, list[int | None]] = {}
        self._hints: dict[tuple[int, ...], str] = {}

    # -- tables --------------------------------------------------------------------------------------------------------

    def table_size(self, index: int) -> int:
        """Give a table's number of elements."""
        helpers = self._helpers.tables.get(index)
        if helpers is None:
            return len(self._content(index))
        size: int = self._instance.call_bits(helpers.size)
        return size

    def table_references(self, index: int) -> tuple[Reference, ...]:
        """Read a whole table as state."""
        if index in self._helpers.contents:
            return tuple(self._content(index))
        place = self._table(index).place
        return tuple(self._load(place, index, position) for position in range(self.table_size(index)))

    def set_table_reference(self, index: int, position: int, reference: int | None) -> None:
        """Set a table element to a function of this instance, or null."""
        self._store(self._table(index).place, reference, position)
        if index in self._helpers.contents:
            self._content(index)[position] = reference

    def table_grow(self, index: int, elements: int, reference: int | None = None) -> int:
        """Grow a table by nulls, or by a function of this instance, and give its old size.

        Raises `TableAccessError` when refused.
        """
        if not 0 <= elements <= _MOST_ELEMENTS:
            raise TableAccessError(f"can't grow table {index} by {elements} elements")
        helpers = self._table(index)
        old: int = self._instance.call_bits(helpers.grow, elements)
        if old == (0xFFFFFFFFFFFFFFFF if self._instance.module.info.tables[index].is_64 else 0xFFFFFFFF):
            raise TableAccessError(f"table {index} can't grow by {elements} element(s): it's as large as it may be")
        if index in self._helpers.contents:
            self._content(index).extend([None] * elements)
        if reference is not None:
            for position in range(old, old + elements):
                self.set_table_reference(index, position, reference)
        return old

    def _table(self, index: int) -> TableHelpers:
        helpers = self._helpers.tables.get(index)
        if helpers is None:
            raise UnsupportedError(f"table {index} is hidden or holds what no host of this engine can reach")
        return helpers

    def _content(self, index: int) -> list[int | None]:
        """Give what a table that the code never changes holds."""
        known = self._known.get(index)
        if known is None:
            if index not in self._helpers.contents:
                raise UnsupportedError(f"what table {index} holds can't be found out on this engine")
            known = self._known[index] = [None] * self._first_size(index)
            for fill in self._helpers.contents[index]:
                offset = fill.offset
                if fill.base is not None:
                    offset += self._imported_bits(fill.base)
                known[offset : offset + len(fill.functions)] = fill.functions
        return known

    def _first_size(self, index: int) -> int:
        info = self._instance.module.info
        if index >= info.imported_tables:
            return info.tables[index].minimum
        tables = [linked for linked in self._instance.linkage.imports if isinstance(linked, LinkedTable)]
        return tables[index].type.minimum

    def _imported_bits(self, index: int) -> int:
        return [linked.bits for linked in self._instance.linkage.imports if isinstance(linked, LinkedGlobal)][index]

    # -- globals -------------------------------------------------------------------------------------------------------

    def global_reference(self, index: int) -> Reference:
        """Read a reference global as state."""
        return self._load(self._global(index), -1 - index)

    def set_global_reference(self, index: int, reference: int | None) -> None:
        """Set a reference global to a function of this instance, or null."""
        self._store(self._global(index), reference)

    def _global(self, index: int) -> PlaceHelpers:
        place = self._helpers.globals.get(index)
        if place is None:
            raise UnsupportedError(f"global {index} is a constant reference, which no host of this engine can reach")
        return place

    # -- any place -----------------------------------------------------------------------------------------------------

    def _load(self, place: PlaceHelpers, number: int, *position: int) -> Reference:
        if self._instance.call_bits(place.load, *position):
            return None
        if not place.is_func:
            return _live("a host object (externref)")
        return self._identify((number, *position))

    def _identify(self, place: tuple[int, ...]) -> Reference:
        """Find out which function is in the hand: functions of another type than the one that is asked trap."""
        assert self._hand is not None
        first = self._hints.get(place)
        ordered = self._hand.identify
        if first is not None:
            ordered = (first, *(name for name in ordered if name != first))
        before = self._instance.cut_short
        for name in ordered:
            try:
                index: int = self._instance.call_bits(name)
            except Trap:
                self._instance.cut_short = before
                continue
            if index == _UNKNOWN:
                break
            self._hints[place] = name
            return index
        self._instance.call_bits(self._hand.calm)
        return _live("a function that isn't the module's own")

    def _store(self, place: PlaceHelpers, reference: int | None, *position: int) -> None:
        if place.is_func:
            assert self._hand is not None
            if reference is None:
                self._instance.call_bits(self._hand.drop)
            else:
                self._instance.call_bits(self._hand.take, self._hand.functions[reference])
        self._instance.call_bits(place.store, *position)


def _live(reason: str) -> Reference:
    from replicate.interfaces import LiveReference

    return LiveReference(reason)
