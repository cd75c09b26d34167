"""`replicate inspect`: what a module is made of, and whether it can be replicated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from replicate import load_engine
from replicate.binary import Prepared, prepare
from replicate.binary.module import describe
from replicate.cli.failures import exit_codes
from replicate.cli.files import read_module_bytes
from replicate.cli.module_report import (
    EngineReport,
    GlobalReport,
    ImportReport,
    MemoryReport,
    ModuleReport,
    TableReport,
    describe_module,
)
from replicate.cli.options import AsJson, Debug, EngineName
from replicate.cli.terminal import cell, plain, size_of, terminal
from replicate.errors import InvalidModuleError, UnsupportedError

__all__ = ["INSPECT_EXIT_CODES", "NOT_REPLICABLE", "inspect"]

NOT_REPLICABLE = 3
INSPECT_EXIT_CODES = exit_codes(done="it can be replicated", also="3: it can't, the findings say why. ")

_GIVERS = {
    "wasi": "replicate.wasi.Wasi().imports()",
    "pool": "made for each instance",
    "host": "you, in imports=",
}


def inspect(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A .wasm or .wat file, or - for standard input.")],
    engine: EngineName = "wasmtime",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show a module's state and imports, and whether it can be replicated.

    State is all that an instance can change: memories, mutable globals, tables, segments that its code drops. What is
    hidden (neither imported nor exported) is replicated too.

    The JSON has: schema, file, size_bytes, sha256, name, engine, replicable, findings, notes, wasi, start,
    has_initialize, has_start, memories, globals, tables, segments, imports, exports.
    """
    chosen = load_engine(engine)
    obstacle = None
    with terminal.working("reading and compiling"):
        wasm = read_module_bytes(file, chosen)
        try:
            prepared = chosen.prepare(wasm)
            chosen.compile_prepared(prepared)
        except UnsupportedError as error:
            obstacle = str(error)
            prepared = _without_engine(wasm, error)
    report = describe_module(prepared, file=file, engine=EngineReport(chosen.name, chosen.version), obstacle=obstacle)
    if as_json:
        terminal.json(report.as_json())
    else:
        _show(report)
    if not report.replicable:
        raise typer.Exit(NOT_REPLICABLE)


def _without_engine(wasm: bytes, refusal: UnsupportedError) -> Prepared:
    """Read a module that the engine refuses; raise its refusal if we can't read it either."""
    try:
        return prepare(wasm)
    except InvalidModuleError:
        raise refusal from None


def _show(report: ModuleReport) -> None:
    name = "standard input" if report.file == "-" else report.file
    terminal.say(Text(plain(name), "bold"))
    terminal.facts(_facts(report))
    _show_state(report)
    _show_imports(report)
    _show_exports(report)


def _facts(report: ModuleReport) -> Iterator[tuple[str, RenderableType]]:
    if report.replicable:
        yield "can be replicated", Text("yes", "green")
    else:
        lines = [f"{finding.place}: {finding.reason}" for finding in report.findings]
        yield "can be replicated", Text(plain("\n".join(["no", *(f"- {line}" for line in lines)])), "red")
    if report.notes:
        yield "notes", Text(plain("\n".join(f"- {note.place}: {note.reason}" for note in report.notes)), "yellow")
    yield "size", size_of(report.size_bytes)
    yield "sha256", report.sha256
    if report.name is not None:
        yield "name", cell(report.name)
    yield "engine", cell(report.engine.version)
    yield "WASI", {None: "not used", "library": "used"}.get(report.wasi) or f"{report.wasi}"
    yield "runs on opening", cell(", ".join(_entries(report)) or "nothing")


def _entries(report: ModuleReport) -> Iterator[str]:
    if report.start is not None:
        yield describe("start function", report.start.index, report.start.name)
    if report.has_initialize:
        yield "_initialize"
    if report.has_start:
        yield "_start, if run_start=True"


def _show_state(report: ModuleReport) -> None:
    terminal.heading("State")
    rows = list(_state_rows(report))
    if rows:
        terminal.table(("part", "type or size", "visible as", "can change"), rows)
    else:
        terminal.say("none: instances can't change", indent=2)
    constants = sum(not each.mutable for each in report.globals)
    if constants:
        terminal.say(f"[dim]and {constants} constant global{'s' * (constants != 1)}[/]", indent=2)


def _state_rows(report: ModuleReport) -> Iterator[tuple[RenderableType, ...]]:
    for memory in report.memories:
        yield _state_row("memory", memory, _size(memory), "content and size" if memory.grows else "content")
    for each in report.globals:
        if each.mutable:
            yield _state_row("global", each, _bare(each.type), "value" if each.changes else "")
    for table in report.tables:
        yield _state_row("table", table, _bare(table.type), "elements and size" if table.changes else "")
    for segment in report.segments:
        label = describe(f"{segment.kind} segment", segment.index, segment.name)
        unit = "bytes" if segment.kind == "data" else "elements"
        yield cell(label), f"{segment.length} {unit}", _HIDDEN, "can be dropped"


_HIDDEN = Text("hidden", "yellow")


def _state_row(
    kind: str, part: MemoryReport | GlobalReport | TableReport, type_: str, change: str
) -> tuple[RenderableType, ...]:
    ways = ["import"] * part.imported + [repr(name) for name in part.exports]
    seen = cell(", ".join(ways)) if ways else _HIDDEN
    own_name = None if part.name in part.exports else part.name
    return (cell(describe(kind, part.index, own_name)), type_, seen, change or Text("nothing", "dim"))


def _size(memory: MemoryReport) -> str:
    """Spell a memory's limits: ``256.0 KiB to 1.0 MiB``, ``64.0 KiB or more, 64-bit``."""
    limits = [memory.minimum_pages]
    if memory.maximum_pages is not None and memory.maximum_pages != memory.minimum_pages:
        limits.append(memory.maximum_pages)
    sizes = " to ".join(size_of(pages * memory.page_bytes) for pages in limits)
    more = "" if memory.maximum_pages is not None else " or more"
    return ", ".join([f"{sizes}{more}"] + ["64-bit"] * memory.is_64 + ["shared"] * memory.shared)


def _bare(type_: str) -> str:
    """Drop the word that the row has already said: ``(memory 1)`` is ``1``."""
    return type_[1:-1].split(" ", 1)[1]


def _show_imports(report: ModuleReport) -> None:
    terminal.heading("Imports")
    if not report.imports:
        terminal.say("none", indent=2)
        return
    rows: list[tuple[RenderableType, ...]] = []
    wasi = [each for each in report.imports if each.given_by == "wasi"]
    for module in dict.fromkeys(each.module for each in wasi):
        count = sum(each.module == module for each in wasi)
        rows.append((cell(module), f"{count} function{'s' * (count != 1)}", "", _GIVERS["wasi"]))
    for each in report.imports:
        if each.given_by != "wasi":
            rows.append(_import_row(each))
    terminal.table(("import", "kind", "type", "given by"), rows)


def _import_row(each: ImportReport) -> tuple[RenderableType, ...]:
    style = "yellow" if each.given_by == "host" else ""
    return cell(f"{each.module}.{each.name}"), each.kind, cell(each.type), Text(_GIVERS[each.given_by], style)


def _show_exports(report: ModuleReport) -> None:
    terminal.heading("Exports")
    if not report.exports:
        terminal.say("none", indent=2)
        return
    rows = [(cell(each.name), each.kind, cell(each.type)) for each in report.exports]
    terminal.table(("export", "kind", "type"), rows)
