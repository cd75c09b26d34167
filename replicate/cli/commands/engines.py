"""`replicate engines`: which engines and adapters there are here, what they can do, and where their workers can run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import typer
from rich.console import RenderableType
from rich.text import Text

from replicate import EngineTraits, adapter_names, engine_names, load_adapter, load_engine
from replicate.cli.options import AsJson, Debug
from replicate.cli.terminal import cell, terminal
from replicate.processes.environments import find_environment
from replicate.processes.interpreters import Candidate, candidates, explain_candidates

__all__ = ["SCHEMA", "AdapterEntry", "EngineEntry", "engines"]

SCHEMA = 1


@attrs.frozen(kw_only=True)
class EngineEntry:
    """Describe a registered engine. `version` and `traits` are None, and `problem` says what to do, if it can't be used.

    An engine that can run in worker processes under another interpreter has `candidates`, the interpreters that were looked
    at; `worker` is the one that does.
    """

    name: str
    usable: bool
    version: str | None
    traits: dict[str, bool] | None
    problem: str | None
    worker: Candidate | None
    candidates: tuple[Candidate, ...]


@attrs.frozen(kw_only=True)
class AdapterEntry:
    """Describe a registered adapter; `problem` says why it can't be used, None if it can."""

    name: str
    usable: bool
    provided_by: str | None
    """The Python class."""
    about: str | None
    problem: str | None


def engines(context: typer.Context, as_json: AsJson = False, debug: Debug = False) -> None:
    """List the engines and adapters that are registered here, and what each engine can do.

    An engine that can't be used in this interpreter may run in worker processes under another one: 'install' sets one up.

    The JSON has: schema; engines, each with name, usable, version, traits, problem, worker, candidates; adapters, each with
    name, usable, provided_by, about, problem. A worker (or null) and the candidates for it have path, origin, version,
    problem.
    """
    if context.invoked_subcommand is not None:
        if as_json or debug:
            raise typer.BadParameter(f"options go behind '{context.invoked_subcommand}'", ctx=context)
        return
    found = [_engine(name) for name in engine_names()]
    adapters = [_adapter(name) for name in adapter_names()]
    if as_json:
        terminal.json(
            {
                "schema": SCHEMA,
                "engines": [attrs.asdict(each, value_serializer=_plain) for each in found],
                "adapters": [attrs.asdict(each) for each in adapters],
            }
        )
        return
    _show_engines(found)
    _show_adapters(adapters)


def _plain(instance: Any, attribute: Any, value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


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
    looked_at, trouble = _try(_look_for_worker, name)
    found = tuple(looked_at or ())
    return EngineEntry(
        name=name,
        usable=engine is not None,
        version=None if engine is None else engine.version,
        traits=None if engine is None else attrs.asdict(engine.traits),
        problem=problem if trouble is None else "\n".join(each for each in (problem, trouble) if each is not None),
        worker=next((each for each in found if each.problem is None), None),
        candidates=found,
    )


def _look_for_worker(name: str) -> list[Candidate]:
    """Give the interpreters for the engine's workers up to the first that does; none for an engine that needs no other."""
    if find_environment(name) is None:
        return []
    looked_at = []
    for each in candidates(name):
        looked_at.append(each)
        if each.problem is None:
            break
    return looked_at


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
        ("in worker processes", *(_worker(each) for each in found)),
        ("version", *(cell(each.version or "-") for each in found)),
    ]
    for field in attrs.fields(EngineTraits):
        rows.append((_label(field.name), *(_trait(each, field.name) for each in found)))
    terminal.table(("", *(each.name for each in found)), rows)
    for each in found:
        _show_engine_problem(each)


def _worker(each: EngineEntry) -> RenderableType:
    return _yes_or_no(each.worker is not None) if each.candidates else "-"


def _show_engine_problem(each: EngineEntry) -> None:
    worker = each.worker
    if worker is not None and not each.usable:
        _note(
            each.name,
            "can't be imported in this interpreter, and is usable through worker processes, which run under "
            f"{worker.path} (Python {worker.version}; {worker.origin})",
        )
        return
    if each.problem is not None:
        _note(each.name, each.problem)
    if worker is None and each.candidates:
        terminal.say("", cell(explain_candidates(each.name, each.candidates)), indent=2)


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
    for each in adapters:
        if each.problem is not None:
            _note(each.name, each.problem)


def _note(name: str, text: str) -> None:
    terminal.say("")
    terminal.say(Text.assemble((f"{name}: ", "bold"), cell(text)), indent=2)
