"""`replicate bench seed`: the article's benchmark, with Trealla Prolog."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from replicate.cli.bench.rounds import Pace
from replicate.configuration import usable_cores

Run = Callable[..., Any]
SMALL = ("--sizes", "1", "--threads", "3", "--rounds", "1")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    pace = Pace(batch_seconds=1e-6, batches=1, crowd_seconds=1e-4, spins=1000)
    monkeypatch.setattr("replicate.cli.bench.rounds.DEFAULT_PACE", pace)


@pytest.mark.usefixtures("quick")
def test_compares_pools_with_one_locked_interpreter(run: Run, trealla: Path, tmp_path: Path) -> None:
    kept, page = tmp_path / "seed.json", tmp_path / "seed.html"

    result = run("bench", "seed", "--wasm", str(trealla), *SMALL, "--json", str(kept), "--report", str(page))

    assert (0, "") == (result.code, result.err)
    said = " ".join(result.out.split())
    for expected in ("3 threads ask Trealla Prolog", "one interpreter behind a lock", "ten times nrev30: pool of"):
        assert expected in said
    names = {each["name"] for each in json.loads(kept.read_text())["series"] if each["group"] == "seed fact"}
    pools = {f"pool of {n}, reset {rule}" for n in (1, usable_cores()) for rule in ("each read", "on commit")}
    assert {"one interpreter behind a lock", *pools} == names
    assert page.read_text().count("<svg") == 3


@pytest.mark.usefixtures("quick")
def test_a_wrong_answer_is_an_error(run: Run, trealla: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replicate_trealla.PrologPool.query_once", lambda self, goal, **named: {"X": 124})

    result = run("bench", "seed", "--wasm", str(trealla), *SMALL)

    assert 1 == result.code
    assert "wrong answer to 'test(X)'" in result.err


@pytest.mark.skipif(sys.platform != "linux", reason="worker processes are for Linux")
@pytest.mark.usefixtures("quick")
def test_measures_worker_processes(run: Run, trealla: Path) -> None:
    result = run("bench", "seed", "--wasm", str(trealla), *SMALL, "--workers", "processes", "--json", "-")

    assert "processes" == json.loads(result.out)["settings"]["workers"]


def test_says_what_is_missing_where_the_module_cant_be_fetched(run_process: Run, tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nothing")
    result = run_process("bench", "seed", REPLICATE_CACHE_DIR=nowhere, REPLICATE_TREALLA_WASM="", PATH=nowhere)

    assert 1 == result.code
    assert "npm" in result.err
    assert "Traceback" not in result.err
