"""`replicate engines`."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import metadata
from typing import Any

import attrs
import pytest

from replicate import EngineTraits, engine_names, load_engine
from replicate.cli.commands.engines import AdapterEntry, EngineEntry

Run = Callable[..., Any]


def entry_points(**groups: dict[str, str]) -> Callable[..., Any]:
    def find(*, group: str) -> list[metadata.EntryPoint]:
        given = groups.get(group.partition(".")[2], {})
        return [metadata.EntryPoint(name, value, group) for name, value in given.items()]

    return find


def test_lists_the_engines_and_their_traits(run: Run) -> None:
    result = run("engines")
    lines = [line.split() for line in result.out.splitlines()]
    names = engine_names()
    cells = {" ".join(line[: -len(names)]).lower(): line[-len(names) :] for line in lines}

    assert (result.code, result.err) == (0, "")
    assert names in lines
    place = names.index("wasmtime")
    assert cells["usable here"][place] == "yes"
    for field in attrs.fields(EngineTraits):
        claim = getattr(load_engine("wasmtime").traits, field.name)
        assert cells[field.name.replace("_", " ")][place] == ("yes" if claim else "no")


def test_json_of_schema_1_stays_as_it_is(run: Run) -> None:
    found = json.loads(run("engines", "--json").out)

    assert list(found) == ["schema", "engines", "adapters"]
    assert found["schema"] == 1
    engine = next(each for each in found["engines"] if each["name"] == "wasmtime")
    assert engine == {
        "name": "wasmtime",
        "usable": True,
        "version": load_engine().version,
        "traits": attrs.asdict(load_engine().traits),
        "problem": None,
        "worker": None,
        "candidates": [],
    }
    adapter = next(each for each in found["adapters"] if each["name"] == "kv")
    assert list(adapter) == ["name", "usable", "provided_by", "about", "problem"]
    assert (adapter["usable"], adapter["provided_by"], adapter["problem"]) == (
        True,
        "replicate_kv.KeyValueAdapter",
        None,
    )


def test_help_documents_the_json_fields(run: Run) -> None:
    said = " ".join(run("engines", "--help").out.split())

    for entry in (EngineEntry, AdapterEntry):
        assert ", ".join(field.name for field in attrs.fields(entry)) in said


def test_an_engine_whose_runtime_is_missing_says_how_to_get_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    registered = entry_points(
        engines={"wasmtime": "replicate_wasmtime:WasmtimeEngine", "gone": "no_such_runtime:Engine"}
    )
    monkeypatch.setattr(metadata, "entry_points", registered)
    result = run("engines")
    said = " ".join(result.out.split())

    assert result.code == 0
    assert "Engines gone wasmtime" in said
    assert "usable here no yes" in said
    assert "gone: engine 'gone' is registered by no_such_runtime:Engine, but can't be imported" in said
    assert "pip install gone" in said
    found = json.loads(run("engines", "--json").out)["engines"][0]
    assert (found["name"], found["usable"], found["version"], found["traits"]) == ("gone", False, None, None)
    assert "pip install gone" in found["problem"]


def test_one_broken_package_doesnt_hide_the_others(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    registered = entry_points(
        engines={"wasmtime": "replicate_wasmtime:WasmtimeEngine"},
        adapters={"kv": "replicate_kv:KeyValueAdapter", "broken": "replicate_kv:NoSuchAdapter"},
    )
    monkeypatch.setattr(metadata, "entry_points", registered)
    found = json.loads(run("engines", "--json").out)["adapters"]

    assert [(each["name"], each["usable"]) for each in found] == [("broken", False), ("kv", True)]
    assert "NoSuchAdapter" in found[0]["problem"]


def test_says_so_where_nothing_is_registered(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "entry_points", entry_points())
    result = run("engines")

    assert result.code == 0
    assert "none is registered: reinstall wasm-replicate" in result.out
