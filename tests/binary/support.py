"""What the tests of `replicate.binary` share: an assembler and an engine with every proposal switched on."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import wasmtime

from replicate.binary.cursor import Cursor
from replicate.binary.module import ModuleInfo
from replicate.binary.scanner import Instruction, read_instruction, skip_locals

_PROPOSALS = (
    *("bulk_memory", "custom_page_sizes", "exceptions", "function_references", "gc", "memory64", "multi_memory"),
    *("multi_value", "reference_types", "relaxed_simd", "simd", "tail_call", "threads", "wide_arithmetic"),
)


@functools.cache
def engine() -> wasmtime.Engine:
    """Return an engine that takes all that it can."""
    config = wasmtime.Config()
    for proposal in _PROPOSALS:
        setattr(config, f"wasm_{proposal}", True)
    config.shared_memory = True
    return wasmtime.Engine(config)


@functools.cache
def stack_switching_engine() -> wasmtime.Engine:
    config = wasmtime.Config()
    for proposal in ("exceptions", "function_references", "gc", "stack_switching"):
        setattr(config, f"wasm_{proposal}", True)
    return wasmtime.Engine(config)


def assemble(wat: str) -> bytes:
    """Return the module that `wat` is the text of, valid or not."""
    return bytes(wasmtime.wat2wasm(wat))


def bodies(wasm: bytes, info: ModuleInfo) -> Iterator[Cursor]:
    """Yield a cursor over each function body, locals included."""
    for section in info.sections:
        if section.id == 10:
            cursor = Cursor(wasm, section.start, section.end)
            for _ in range(cursor.u32()):
                yield cursor.sub(cursor.u32())


def instructions(body: Cursor) -> list[tuple[int, Instruction, list[int]]]:
    """Return offset, opcodes and indices of each instruction of a body."""
    skip_locals(body)
    found = []
    while body.position < body.end:
        offset = body.position
        found.append((offset, *read_instruction(body)))
    return found


class Running:
    """An instance of a module without imports, with its exports by name."""

    def __init__(self, wasm: bytes) -> None:
        self.store = wasmtime.Store(engine())
        self.instance = wasmtime.Instance(self.store, wasmtime.Module(engine(), wasm), [])

    def __getitem__(self, name: str) -> Any:
        return self.instance.exports(self.store)[name]

    def call(self, name: str, *arguments: object) -> Any:
        return self[name](self.store, *arguments)

    def traps(self, name: str) -> bool:
        try:
            self.call(name)
        except wasmtime.Trap:
            return True
        return False
