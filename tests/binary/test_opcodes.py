"""The table of instructions, held against the assembler's encoding of every single one."""

from __future__ import annotations

import pytest
from wasm_tools.opcodes import OPCODES  # type: ignore[import-untyped]

from replicate.binary import read_module
from replicate.binary.opcodes import PREFIXES, immediates
from replicate.binary.scanner import Instruction

from .support import assemble, bodies, instructions

STACK_SWITCHING: dict[Instruction, str] = {
    (0xE0, None): "cont.new 3",
    (0xE1, None): "cont.bind 3 3",
    (0xE2, None): "suspend 3",
    (0xE3, None): "resume 3 (on 3 0) (on 300 switch)",
    (0xE4, None): "resume_throw 3 3 (on 3 0)",
    (0xE5, None): "resume_throw_ref 3 (on 3 0)",
    (0xE6, None): "switch 3 3",
}

# How to write an instruction that needs more than its name and its immediates.
SPECIAL = {
    "block": "block (result (ref null 3)) unreachable end",
    "loop": "loop (type 300) end",
    "if": "if (result funcref) unreachable else unreachable end",
    "else": "if else end",
    "end": "block end",
    "try": "try (result i32) i32.const 0 catch_all i32.const 1 end",
    "catch": "try catch 300 end",
    "catch_all": "try catch_all end",
    "delegate": "try delegate 0",
    "rethrow": "try catch 3 rethrow 0 end",
    "try_table": "try_table (result i32) (catch 3 0) (catch_ref 300 0) (catch_all 0) (catch_all_ref 0) unreachable end",
    "br_table": "br_table 0 0 0 0",
    "call_indirect": "call_indirect 300 (type 3)",
    "return_call_indirect": "return_call_indirect 300 (type 3)",
    "ref.null": "ref.null 300",
    "ref.test": "ref.test (ref 300)",
    "ref.test_null": "ref.test (ref null any)",
    "ref.cast": "ref.cast (ref 300)",
    "ref.cast_null": "ref.cast (ref null any)",
    "br_on_cast": "br_on_cast 0 anyref (ref 300)",
    "br_on_cast_fail": "br_on_cast_fail 0 anyref eqref",
    "v128.const": "v128.const i64x2 0x2424242424242424 0x2424242424242424",
    "i8x16.shuffle": "i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15",
    "i32.const": "i32.const -70000",
    "i64.const": "i64.const -0x7fffffffffffffff",
    "f32.const": "f32.const 0x1.484848p-55",
    "f64.const": "f64.const 0x1.4242424242424p-437",
    "br": "br 0",
    "br_if": "br_if 0",
    "br_on_null": "br_on_null 0",
    "br_on_non_null": "br_on_non_null 0",
    "atomic.fence": "atomic.fence",
}
BY_IMMEDIATES = {"": "", "u": " 300", "uu": " 300 200", "m": " 300 offset=0x24242424 align=1", "b": " 1"}
BY_IMMEDIATES["mb"] = BY_IMMEDIATES["m"] + " 1"

ALL: list[Instruction] = [
    (opcode, None) for opcode in range(256) if opcode not in PREFIXES and immediates(opcode, None) is not None
]
ALL += [(prefix, suffix) for prefix, suffixes in PREFIXES.items() for suffix in suffixes]


def written(opcode: int, suffix: int | None) -> str:
    """Return the instruction in the text format."""
    if (opcode, suffix) in STACK_SWITCHING:
        return STACK_SWITCHING[opcode, suffix]
    key = (0, opcode) if suffix is None else (opcode, suffix)
    name: str = OPCODES[key][0]
    if (opcode, suffix) == (0x1C, None):
        return "select (result funcref)"
    if (opcode, suffix) in ((0xFB, 0x15), (0xFB, 0x17)):
        return SPECIAL[name.removesuffix("_null") + "_null"]
    if name in SPECIAL:
        return SPECIAL[name]
    letters = immediates(opcode, suffix)
    assert letters is not None
    text = name + BY_IMMEDIATES[letters]
    if letters.startswith("m") and opcode == 0xFE:
        return text.replace(" align=1", "")  # atomic accesses have no other alignment than their own
    return text


@pytest.mark.parametrize(("opcode", "suffix"), ALL, ids=lambda value: "-" if value is None else f"{value:#04x}")
def test_an_instruction_is_read_as_the_assembler_writes_it(opcode: int, suffix: int | None) -> None:
    text = written(opcode, suffix)
    wasm = assemble(f"(module (func {text} global.set 12345678))")
    (body,) = bodies(wasm, read_module(wasm))

    found = instructions(body)

    assert (opcode, suffix) in [instruction for _, instruction, _ in found]
    assert [instruction for _, instruction, _ in found[-2:]] == [(0x24, None), (0x0B, None)]
    assert found[-2][2] == [12345678]


def test_the_table_knows_every_instruction_of_wasm_3_and_the_threads_proposal() -> None:
    half_precision = {key for key, (name, _) in OPCODES.items() if "f16" in name}
    elsewhere = {(0, opcode) if suffix is None else (opcode, suffix) for opcode, suffix in ALL}
    unknown: dict[object, str] = {
        key: name for key, (name, _) in OPCODES.items() if key not in elsewhere | half_precision
    }

    assert unknown == {}


def test_the_table_knows_the_stack_switching_proposal() -> None:
    assert set(STACK_SWITCHING) <= set(ALL)
