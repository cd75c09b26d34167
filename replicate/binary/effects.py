"""What a module's code can do to its state, found by looking at every instruction."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from replicate.binary.cursor import Cursor
from replicate.binary.module import ModuleInfo
from replicate.binary.reader import CODE
from replicate.binary.scanner import Instruction, Scanner
from replicate.errors import InvalidModuleError

__all__ = ["Effects", "changing_globals", "changing_tables", "scan_effects"]

# For each instruction with an effect: which fact it adds to, and which of its indices says about what.
_EFFECTS: dict[Instruction, tuple[str, int]] = {
    (0x24, None): ("globals_set", 0),
    (0x26, None): ("tables_written", 0),  # table.set
    (0x40, None): ("memories_grown", 0),
    (0xD2, None): ("functions_referenced", 0),
    (0xFC, 0x09): ("data_dropped", 0),
    (0xFC, 0x0C): ("tables_written", 1),  # table.init, segment first
    (0xFC, 0x0D): ("elements_dropped", 0),
    (0xFC, 0x0E): ("tables_written", 0),  # table.copy, destination first
    (0xFC, 0x0F): ("tables_written", 0),  # table.grow
    (0xFC, 0x11): ("tables_written", 0),  # table.fill
    **dict.fromkeys(
        # struct.set array.set array.fill array.copy array.init_data array.init_elem
        ((0xFB, suffix) for suffix in (0x05, 0x0E, 0x10, 0x11, 0x12, 0x13)),
        ("objects_mutated", 0),
    ),
}
_SCANNER = Scanner(_EFFECTS)


@attrs.frozen
class Effects:
    """List what the code of a module can change; what isn't listed stays as instantiation leaves it."""

    globals_set: frozenset[int]
    tables_written: frozenset[int]
    """Tables that the code sets, fills, copies to, initialises or grows."""
    memories_grown: frozenset[int]
    data_dropped: frozenset[int]
    elements_dropped: frozenset[int]
    functions_referenced: frozenset[int]
    """Functions that a reference can be made to: by ``ref.func``, an element segment or an initialiser."""
    objects_mutated: bool
    """Whether the code writes fields of structs or elements of arrays of the garbage-collected heap."""


def scan_effects(wasm: bytes, info: ModuleInfo) -> Effects:
    """Return what the code of the module `wasm`, described by `info`, can change.

    Raises `InvalidModuleError` for code that isn't well-formed; whether it is valid is the engine's business.
    """
    found: set[bytes] = set()
    for start, end in _bodies(wasm, info):
        _SCANNER.scan_body(wasm, start, end, found)
    facts: dict[str, set[int]] = {fact: set() for fact, _ in _EFFECTS.values()}
    for instruction, operands in _SCANNER.decode(found):
        fact, operand = _EFFECTS[instruction]
        facts[fact].add(operands[operand])
    sizes = {
        "globals_set": len(info.globals),
        "tables_written": len(info.tables),
        "memories_grown": len(info.memories),
        "data_dropped": len(info.data),
        "elements_dropped": len(info.elements),
        "functions_referenced": len(info.functions),
        "objects_mutated": len(info.types),
    }
    for fact, size in sizes.items():
        beyond = max(facts[fact], default=-1)
        if beyond >= size:
            raise InvalidModuleError(f"malformed module: its code has the index {beyond} ({fact}), of only {size}")
    return Effects(
        globals_set=frozenset(facts["globals_set"]),
        tables_written=frozenset(facts["tables_written"]),
        memories_grown=frozenset(facts["memories_grown"]),
        data_dropped=frozenset(facts["data_dropped"]),
        elements_dropped=frozenset(facts["elements_dropped"]),
        functions_referenced=frozenset(facts["functions_referenced"]) | info.constant_functions,
        objects_mutated=bool(facts["objects_mutated"]),
    )


def changing_globals(info: ModuleInfo, effects: Effects) -> frozenset[int]:
    """Return the globals that can get another value, from the code or from a host that sees them."""
    mutable = {index for index, type_ in enumerate(info.globals) if type_.mutable}
    return (effects.globals_set | info.exposed("global")) & mutable


def changing_tables(info: ModuleInfo, effects: Effects) -> frozenset[int]:
    """Return the tables that can get other elements, from the code or from a host that sees them."""
    return effects.tables_written | info.exposed("table")


def _bodies(wasm: bytes, info: ModuleInfo) -> Iterator[tuple[int, int]]:
    """Yield where each function's body, locals included, starts and ends."""
    for section in info.sections:
        if section.id == CODE:
            cursor = Cursor(wasm, section.start, section.end)
            for _ in range(cursor.u32()):
                length = cursor.u32()
                start = cursor.position
                cursor.skip(length)
                yield start, cursor.position
