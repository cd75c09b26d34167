"""`replicate engines install`, and what the list says about worker processes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from fake_interpreters import World, world

from replicate.processes.interpreters import Candidate

__all__ = ["world"]

Run = Callable[..., Any]
BASE = "pyenv/versions/3.98.1/bin/python3.98"


def test_installs_and_says_where(run: Run, world: World) -> None:
    world.python(BASE)
    python = world.root / "cache/environments/fake/bin/python"
    first, second, forced = (
        run("engines", "install", "fake"),
        run("engines", "install", "fake"),
        run("engines", "install", "fake", "--force"),
    )

    assert (first.code, first.err, first.out.split()) == (0, "", f"fake: built: {python}, Python 3.98.1".split())
    assert second.code == 0
    assert second.out.startswith("fake: there already, and works (--force builds it again):")
    assert (forced.code, forced.out) == (0, first.out)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nope", "no engine is called 'nope'; registered are: fake, plain"),
        ("plain", "engine 'plain' needs no environment of its own: it runs inside this process"),
        ("fake", "it takes CPython 3.98 or 3.97 on x86_64"),
    ],
)
def test_what_cannot_be_installed_is_an_error(run: Run, world: World, name: str, said: str) -> None:
    result = run("engines", "install", name)

    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("error: ")
    assert said in " ".join(result.err.split())


def test_pips_last_lines_are_shown(run: Run, world: World) -> None:
    world.python(BASE, pip="echo no such version; exit 1")
    result = run("engines", "install", "fake")

    assert (result.code, result.out) == (1, "")
    assert "failed: it ended with status 1, and at last said:\n  no such version\n" in result.err


def test_takes_another_base(run: Run, world: World) -> None:
    mine = world.python("mine", version="3.97.5")

    assert "Python 3.97.5" in " ".join(run("engines", "install", "fake", "--python", str(mine)).out.split())


def test_does_not_ignore_another_base(run: Run, world: World) -> None:
    world.python(BASE)
    run("engines", "install", "fake")
    result = run("engines", "install", "fake", "--python", str(world.python("mine", version="3.97.5")))

    assert (result.code, result.out) == (1, "")
    assert "use --force" in " ".join(result.err.split())


def test_says_that_the_variable_goes_first(run: Run, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_PYTHON", str(world.python("mine")))

    assert "it isn't used as long as $FAKE_PYTHON is set" in run("engines", "install", "fake").out


@pytest.mark.parametrize("arguments", [["install"], ["instal", "fake"], ["--json", "install", "fake"], ["fake"]])
def test_wrong_usage(run: Run, world: World, arguments: list[str]) -> None:
    world.python(BASE)
    result = run("engines", *arguments)

    assert (result.code, result.out) == (2, "")
    assert world.runs() == 0


def test_debug_shows_the_traceback(run: Run, world: World) -> None:
    with pytest.raises(LookupError):
        run("engines", "install", "nope", "--debug")


def test_the_list_shows_through_what_an_engine_is_usable(run: Run, world: World) -> None:
    python = world.python(BASE)
    result = run("engines")
    lines = [line.split() for line in result.out.splitlines()]
    said = " ".join(result.out.split())

    assert (result.code, result.err) == (0, "")
    assert ["fake", "plain"] in lines
    assert ["usable", "here", "no", "yes"] in lines
    assert ["in", "worker", "processes", "yes", "-"] in lines
    assert (
        "fake: can't be imported in this interpreter, and is usable through worker processes, which run under" in said
    )
    # Long paths are folded where the terminal ends.
    assert f"{python}(Python3.98.1;pyenv)" in "".join(result.out.split())


def test_the_list_shows_why_none_of_the_interpreters_does(run: Run, world: World) -> None:
    world.script("path/python3.98", "exit 127")
    result = run("engines")
    said = " ".join(result.out.split())

    assert ["in", "worker", "processes", "no", "-"] in [line.split() for line in result.out.splitlines()]
    assert "fake: engine 'fake' is registered by" in said
    assert "($PATH) ended with status 127" in said
    assert "hasn't been installed" in said
    assert "replicate engines install fake" in said


def test_json_has_the_interpreters_that_were_looked_at(run: Run, world: World) -> None:
    world.script(BASE, "exit 127")
    python = world.python("path/python3.98")
    engine, plain = json.loads(run("engines", "--json").out)["engines"]

    assert engine["worker"] == {"path": str(python), "origin": "$PATH", "version": "3.98.1", "problem": None}
    assert [each["origin"] for each in engine["candidates"]] == [
        "this interpreter",
        "its private environment",
        "pyenv",
        "$PATH",
    ]
    assert engine["candidates"][2]["problem"] == "ended with status 127"
    assert (engine["usable"], plain["worker"], plain["candidates"]) == (False, None, [])


def test_a_broken_declaration_does_not_hide_the_list(run: Run, world: World) -> None:
    world.register(value="no_such_backend:ENVIRONMENT")
    engine, plain = json.loads(run("engines", "--json").out)["engines"]

    assert "can't be loaded from no_such_backend:ENVIRONMENT" in engine["problem"]
    assert (engine["worker"], plain["usable"]) == (None, True)


def test_help_documents_an_interpreters_json_fields(run: Run) -> None:
    said = " ".join(run("engines", "--help").out.split())

    assert ", ".join(field.name for field in attrs.fields(Candidate)) in said
    assert "install" in said
    assert "--force" in run("engines", "install", "--help").out
