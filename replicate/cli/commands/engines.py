"""`replicate engines`: which engines and adapters there are here, and what they can do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from rich.console import RenderableType
from rich.text import Text

from replicate import EngineTraits, adapter_names, engine_names, load_adapter, load_engine
from replicate.cli.options import AsJson, Debug
from replicate.cli.terminal import cell, terminal

__all__ = ["SCHEMA", "AdapterEntry", "EngineEntry", "engines"]

SCHEMA = 1


@attrs.frozen(kw_only=True)
class EngineEntry:
    """Describe a registered engine. `version` and `traits` are None, and `problem` says what to do, if it can't be used."""

    name: str
    usable: bool
    version: str | None
    traits: dict[str, bool] | None
    problem: str | None


@attrs.frozen(kw_only=True)
class AdapterEntry:
    """Describe a registered adapter; `problem` says why it can't be used, None if it can."""

    name: str
    usable: bool
    provided_by: str | None
    """The Python class."""
    about: str | None
    problem: str | None


def engines(as_json: AsJson = False, debug: Debug = False) -> None:
    """List the engines and adapters that are registered here, and what each engine can do.

    The JSON has: schema; engines, each with name, usable, version, traits, problem; adapters, each with name, usable,
    provided_by, about, problem.
    """
    found = [_engine(name) for name in engine_names()]
    adapters = [_adapter(name) for name in adapter_names()]
    if as_json:
        terminal.json(
            {
                "schema": SCHEMA,
                "engines": [attrs.asdict(each) for each in found],
                "adapters": [attrs.asdict(each) for each in adapters],
            }
        )
        return
    _show_engines(found)
    _show_adapters(adapters)


def _try(load: Callable[[str], Any], name: str) -> tuple[Any, str | None]:
    # Whatever somebody else's package does when it's imported, the other lines of the list should still come.
    try:
        return load(name), None
    except Exception as error:
        message = str(error)
        if not type(error).__module__.startswith("replicate."):
            message = f"it can't be loaded: {type(error).__name__}: {message}"
        return None, message


def _engine(name: str) -> EngineEntry:
    engine, problem = _try(load_engine, name)
    if engine is None:
        return EngineEntry(name=name, usable=False, version=None, traits=None, problem=problem)
    return EngineEntry(name=name, usable=True, version=engine.version, traits=attrs.asdict(engine.traits), problem=None)


def _adapter(name: str) -> AdapterEntry:
    adapter, problem = _try(load_adapter, name)
    if adapter is None:
        return AdapterEntry(name=name, usable=False, provided_by=None, about=None, problem=problem)
    about = (adapter.__doc__ or "").strip().partition("\n")[0].replace("`", "") or None
    provided_by = f"{adapter.__module__.partition('.')[0]}.{adapter.__name__}"
    return AdapterEntry(name=name, usable=True, provided_by=provided_by, about=about, problem=None)


def _yes_or_no(value: bool) -> RenderableType:
    return Text("yes", "green") if value else Text("no", "dim")


def _show_engines(found: list[EngineEntry]) -> None:
    terminal.say("[bold]Engines[/]")
    if not found:
        terminal.say("none is registered: reinstall wasm-replicate", indent=2)
        return
    rows: list[tuple[RenderableType, ...]] = [
        ("usable here", *(_yes_or_no(each.usable) for each in found)),
        ("version", *(cell(each.version or "-") for each in found)),
    ]
    for field in attrs.fields(EngineTraits):
        rows.append((_label(field.name), *(_trait(each, field.name) for each in found)))
    terminal.table(("", *(each.name for each in found)), rows)
    _show_problems(found)


def _label(trait: str) -> str:
    return " ".join(word.upper() if word in ("gc", "gil", "simd") else word for word in trait.split("_"))


def _trait(each: EngineEntry, name: str) -> RenderableType:
    return "-" if each.traits is None else _yes_or_no(each.traits[name])


def _show_adapters(adapters: list[AdapterEntry]) -> None:
    terminal.heading("Adapters")
    if not adapters:
        terminal.say("none is registered", indent=2)
        return
    rows = [
        (cell(each.name), _yes_or_no(each.usable), cell(each.provided_by or "-"), cell(each.about or ""))
        for each in adapters
    ]
    terminal.table(("adapter", "usable here", "class", ""), rows)
    _show_problems(adapters)


def _show_problems(entries: list[EngineEntry] | list[AdapterEntry]) -> None:
    for each in entries:
        if each.problem is not None:
            terminal.say("")
            terminal.say(Text.assemble((f"{each.name}: ", "bold"), cell(each.problem)), indent=2)
