"""Read the module that a command is given, and compile it."""

from __future__ import annotations

import sys
from pathlib import Path

import attrs

from replicate import Engine, Instance, Module, Snapshot, Wasi, load_engine
from replicate.cli.terminal import terminal
from replicate.errors import InvalidModuleError, MissingImportError, ReplicateError
from replicate.outfiles import why_not_writable
from replicate.source import read_source
from replicate.wasi.surface import PREVIEW1, UNSTABLE

__all__ = ["LoadedModule", "check_output", "load_module", "read_module_bytes"]

_WASI = {"wasi_snapshot_preview1": PREVIEW1, "wasi_unstable": UNSTABLE}


@attrs.frozen
class LoadedModule:
    """Hold a module's binary (assembled, if it was text) and what an engine made of it."""

    file: str
    wasm: bytes
    module: Module

    @property
    def uses_wasi(self) -> bool:
        """Tell whether the module imports WASI."""
        return any(each.module in _WASI for each in self.module.info.imports)

    @property
    def name(self) -> str:
        """Give a short name for messages."""
        return "module" if self.file == "-" else Path(self.file).stem

    def check_imports(self, *, instead: str) -> None:
        """Raise `MissingImportError` if the module needs anything but WASI; the message ends with what to do `instead`."""
        strange = [
            f"{each.module}.{each.name}"
            for each in self.module.info.imports
            if each.kind in ("func", "global") and each.name not in _WASI.get(each.module, {})
        ]
        if strange:
            raise MissingImportError(
                f"{self.file!r} imports {', '.join(strange)}, which the command line can't give, only WASI: {instead}"
            )

    def start(self) -> Instance:
        """Make an instance with WASI and start it."""
        self.check_imports(instead="take the snapshot in Python, with imports=")
        return self.module.instantiate(Wasi().imports() if self.uses_wasi else None)


def check_output(output: Path | None, *inputs: str | Path) -> None:
    """Raise `ReplicateError` for a file that can't be written, or that is an input itself, before any work is done."""
    if output is None or str(output) == "-":
        return
    for each in inputs:
        if str(each) != "-" and _same(output, Path(each)):
            raise ReplicateError(f"{str(output)!r} is the input itself, which would be lost; write to another file")
    reason = why_not_writable(output)
    if reason is not None:
        raise ReplicateError(f"can't write {str(output)!r}: {reason}")


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other) and other.is_file()
    except (OSError, ValueError):
        return False


def read_module_bytes(file: str, engine: Engine) -> bytes:
    """Read a module's binary from a .wasm or .wat file, or from standard input for ``-``."""
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InvalidModuleError(
            f"can't read {file!r}: {reason}; give a .wasm or .wat file, or - for standard input"
        ) from error
    if Snapshot.is_one(data):
        raise InvalidModuleError(f"{file!r} is a snapshot; give the module that it was taken of, a .wasm or .wat file")
    return read_source(data, engine.wat_to_wasm)


def load_module(file: str, engine: str | Engine) -> LoadedModule:
    """Read and compile a module."""
    chosen = load_engine(engine) if isinstance(engine, str) else engine
    with terminal.working("reading and compiling"):
        wasm = read_module_bytes(file, chosen)
        return LoadedModule(file, wasm, chosen.compile(wasm))
