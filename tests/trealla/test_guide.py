"""The guide for users, docs/PROLOG.md: what it names is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/PROLOG.md").read_text("utf-8")
FILES = {path.name for path in ROOT.glob("tests/**/test_*.py")}
TESTS = set(
    re.findall(r"def (test_\w+)\(", "\n".join(path.read_text("utf-8") for path in ROOT.glob("tests/**/test_*.py")))
)


def _rows(heading: str) -> list[list[str]]:
    """Give the cells of the table under a heading, without its head."""
    section = GUIDE.split(f"\n## {heading}", 1)[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_each_feature_in_the_guide_has_a_test() -> None:
    rows = _rows("What the Go embedding has")

    assert len(rows) > 20
    for row in rows:
        assert len(row) == 3, row
        named = re.findall(r"(test_\w+)", row[2])
        assert named, f"no test is named for {row[0]}"
        assert not {name for name in named if f"{name}.py" not in FILES} - TESTS, row


def test_what_the_guide_imports_is_there() -> None:
    import replicate_trealla

    for names in re.findall(r"from replicate_trealla import (.*)", GUIDE):
        for name in names.split(", "):
            assert hasattr(replicate_trealla, name)
