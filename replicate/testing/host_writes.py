"""What a host does to a guest from outside, through the handles that users have."""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs
from hypothesis import strategies as st

from replicate.errors import ReplicateError
from replicate.interfaces import Instance
from replicate.values import bits_to_value

__all__ = ["HostWrite", "host_writes"]

_Kind: TypeAlias = Literal["memory", "grow memory", "global", "table", "grow table", "state"]


@attrs.frozen
class HostWrite:
    """Be one change from outside; which part of the guest it's about follows from the numbers."""

    kind: _Kind
    which: int
    at: int
    value: int

    def apply(self, instance: Instance) -> str:
        """Make the change, and say how it ended."""
        try:
            self._apply(instance)
        except ReplicateError as error:
            return type(error).__name__
        return "done"

    def _apply(self, instance: Instance) -> None:
        info = instance.module.info
        if self.kind == "state":
            instance.guest.state.setdefault("written", []).append(self.value)
        elif "memory" in self.kind and info.memories:
            memory = instance.memories[self.which % len(info.memories)]
            if self.kind == "grow memory":
                memory.grow(self.value % 2)
            else:
                # The last bytes as often as the first.
                offset = self.at % 64 if self.value % 2 else memory.size - 1 - self.at % 64
                memory.write(offset, bytes([self.value % 256]))
        elif "table" in self.kind and info.tables:
            table = instance.tables[self.which % len(info.tables)]
            if self.kind == "grow table":
                table.grow(self.value % 2)
            elif len(table):
                table[self.at % len(table)] = table[self.value % len(table)] if self.value % 4 else None
        elif self.kind == "global":
            variables = [index for index, type_ in enumerate(info.globals) if type_.mutable and type_.value.is_number]
            if variables:
                index = variables[self.which % len(variables)]
                handle, kind = instance.globals[index], info.globals[index].value
                width = {"i32": 32, "f32": 32, "v128": 128}.get(kind.text, 64)
                handle.value = bits_to_value(self.value * 0x0101_0101_0101_0101 & (1 << width) - 1, kind)


def host_writes(*, references: bool) -> st.SearchStrategy[HostWrite]:
    """Draw changes from outside; those of tables only where `references` cross between guest and host."""
    kinds: list[_Kind] = ["memory", "global", "state", "grow memory"]
    if references:
        kinds += ["table", "grow table"]
    return st.builds(
        HostWrite, st.sampled_from(kinds), st.integers(0, 5), st.integers(0, 200), st.integers(0, 0x7FFFFFFF)
    )
