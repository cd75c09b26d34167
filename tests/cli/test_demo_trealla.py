"""`replicate demo` with Trealla Prolog."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from replicate.cli.demo.trealla import Journey, _fastest

Run = Callable[..., Any]
SMALL = ("--queries", "6", "--threads", "3", "--replicas", "2", "--rounds", "1")


@pytest.mark.usefixtures("trealla")
def test_tells_the_whole_story(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replicate.cli.demo.load._LEAST_SECONDS", 0.01)
    result = run("demo", *SMALL)

    assert (result.code, result.err) == (0, "")
    said = " ".join(result.out.split())
    for expected in (
        "2 write a timetable of 16 lines and the rule fastest/4 consulted; version 1",
        "3 reads 6 from 3 threads at once, all answers right",
        "4 write assertz(line(paris, milan, 290)), assertz(line(frankfurt, zurich, 150)); version 2",
        "6 failing write retractall(line(_, _, _)), throw(strike) raised PrologError(strike)",
        "every answer as before, still version 2",
        "one locked interpreter on",
        "version 2 (2 commits, 1 rolled back)",
    ):
        assert expected in said


def test_a_module_of_ones_own_can_be_given(run_process: Run, trealla: Path) -> None:
    result = run_process("demo", "--wasm", str(trealla), *SMALL, REPLICATE_TREALLA_WASM="no-such-file")

    assert (result.code, result.err) == (0, "")


def test_a_lost_write_exits_1(run: Run, trealla: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replicate_trealla.PrologPool.execute", lambda self, goal, **named: None)
    result = run("demo", "--wasm", str(trealla), "--queries", "132", "--threads", "4", "--rounds", "1")

    assert result.code == 1
    assert "error: wrong answer to 'fastest(" in " ".join(result.err.split())


def test_refuses_what_isnt_trealla(run: Run, kv_path: Path) -> None:
    missing, other = run("demo", "--wasm", "no-such-file"), run("demo", "--wasm", str(kv_path))

    assert (missing.code, other.code) == (1, 1)
    assert "'no-such-file', which isn't a file" in missing.err
    assert other.err.startswith("error: this module isn't a Trealla Prolog")


def test_says_what_is_missing_where_the_module_cant_be_fetched(run_process: Run, tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nothing")
    result = run_process("demo", REPLICATE_CACHE_DIR=nowhere, REPLICATE_TREALLA_WASM="", PATH=nowhere)

    assert result.code == 1
    assert "npm" in result.err
    assert "Traceback" not in result.err


def test_the_model_takes_the_shortest_route_and_of_equals_the_first_in_term_order() -> None:
    lines = {("a", "b"): 1, ("b", "d"): 3, ("a", "c"): 2, ("c", "d"): 2, ("d", "e"): 1, ("a", "e"): 9}

    assert _fastest(lines, "a", "e") == Journey(5, ("a", "b", "d", "e"))
    assert _fastest(lines, "e", "a") == Journey(5, ("e", "d", "b", "a"))
