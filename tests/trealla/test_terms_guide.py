"""What docs/TERMS.md says is so."""

from __future__ import annotations

import ast
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import replicate_trealla

GUIDE = (Path(__file__).parents[2] / "docs/TERMS.md").read_text("utf-8")
CODE = "\n".join(re.findall(r"^```python\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL))


def test_each_line_gives_what_its_comment_says(wasm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("terms_guide")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv("REPLICATE_TREALLA_WASM", str(wasm))
    names: dict[str, Any] = vars(module)
    lines = CODE.splitlines()
    seen = 0
    try:
        for statement in ast.parse(CODE).body:
            if not isinstance(statement, ast.Expr):
                exec(compile(ast.Module([statement], []), "TERMS.md", "exec"), names)
                continue
            given = ast.unparse(statement)
            _, _, wanted = lines[(statement.end_lineno or 0) - 1].partition("  # ")
            assert eval(given, names) == eval(wanted, names), given
            seen += 1
    finally:
        if "prolog" in names:
            names["prolog"].close()
    assert seen > 15


def test_what_it_imports_is_exported() -> None:
    for names in re.findall(r"^from replicate_trealla import (.*)$", CODE, re.MULTILINE):
        assert set(names.split(", ")) <= set(replicate_trealla.__all__)
