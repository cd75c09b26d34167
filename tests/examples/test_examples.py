"""Every example runs and prints what it should."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_EXPECTED = Path(__file__).parent / "expected"
_SERVICE = "prolog_service"  # runs until it's stopped; it has tests of its own
_EXAMPLES = sorted(path for path in (_ROOT / "examples").glob("*.py") if path.stem != _SERVICE)


@pytest.mark.parametrize("example", _EXAMPLES, ids=lambda path: path.stem)
def test_prints_what_is_expected(example: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    expected = _EXPECTED / f"{example.stem}.txt"
    assert expected.exists(), f"what {example.name} should print goes into {expected.relative_to(_ROOT)}"

    if "replicate_trealla" in example.read_text("utf-8"):
        request.getfixturevalue("trealla")
    # From another folder, as whoever copies the file would.
    done = subprocess.run(
        [sys.executable, "-W", "error", str(example)], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )

    assert (done.stdout, done.stderr, done.returncode) == (expected.read_text("utf-8"), "", 0)


def test_nothing_is_expected_of_examples_that_are_gone() -> None:
    assert {path.stem for path in _EXPECTED.iterdir()} <= {path.stem for path in _EXAMPLES}


def test_examples_are_short() -> None:
    too_long = [path.name for path in _EXAMPLES if len(path.read_text("utf-8").splitlines()) > 60]

    assert too_long == []
