"""What README shows in Python runs as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from replicate import errors
from replicate.errors import CacheError, EngineError
from replicate.processes.interpreters import find_interpreter
from replicate_trealla.fetch import module_path

_README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
_SNIPPETS = re.findall(r"^```python\n(.*?)^```$", _README, re.MULTILINE | re.DOTALL)
_IMPORTS = "".join(line for line in _SNIPPETS[0].splitlines(keepends=True) if re.match("(import|from) ", line))
"""What the first one imports, the others take for known."""

# What a reader is told to have: a module of one's own, with what the options are about, a folder, and a Python module.
_GUEST = """(module (import "host" "log" (func (param i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func (param i32 i32) (result i32)))
  (memory (export "memory") 1) (memory (export "scratch") 1)
  (func (export "get") (param i32) (result i32) (i32.load8_u (i32.and (local.get 0) (i32.const 0xff))))
  (func (export "put") (param i32 i32) (i32.store8 (i32.and (local.get 0) (i32.const 0xff)) (local.get 1))))"""
_JOBS = 'def total(guest): return sum(guest.call("get", key) for key in range(1000))\n'
_RUN = """import ast, asyncio, inspect, sys
sys.path.insert(0, "")
names = {"__name__": "__main__"}
code = compile(sys.stdin.read(), "README.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
running = eval(code, names)
if inspect.iscoroutine(running):
    asyncio.run(running)
for name in [name for name in names if name.startswith("test_")]:
    names[name]()
"""


def _need(snippet: str) -> None:
    """Skip what needs something that isn't everywhere; in CI it is."""
    if os.environ.get("CI"):
        return
    if "replicate_trealla" in snippet:
        try:
            module_path()
        except CacheError as error:
            pytest.skip(f"Trealla's module can't be had here: {error}")
    if 'engine="wasmer"' in snippet:
        if sys.platform != "linux":
            pytest.skip("worker processes are for Linux")
        try:
            find_interpreter("wasmer")
        except EngineError as error:
            pytest.skip(f"there's no interpreter with wasmer here: {error}")


@pytest.mark.parametrize("snippet", _SNIPPETS, ids=lambda snippet: snippet.splitlines()[0][:40])
def test_a_snippet_runs(snippet: str, tmp_path: Path) -> None:
    _need(snippet)
    (tmp_path / "guest.wasm").write_text(_GUEST)
    (tmp_path / "jobs.py").write_text(_JOBS)
    (tmp_path / "data").mkdir()
    script = snippet if snippet is _SNIPPETS[0] else _IMPORTS + snippet

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _RUN],
        input=script,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
    )

    assert (0, "") == (done.returncode, done.stderr)


def test_the_snippets_are_found() -> None:
    assert _README.count("```python") == len(_SNIPPETS) > 6


def test_the_table_of_errors_is_complete_and_true() -> None:
    text = (Path(__file__).parents[1] / "docs/ERRORS.md").read_text("utf-8")
    told = {
        name: set(re.findall(r"`(\w+)`", bases))
        for name, bases in re.findall(r"^\| `(\w+)` \| (.*?) \| ", text, re.MULTILINE)
    }

    there = {name: getattr(errors, name) for name in errors.__all__}
    raised = {name: kind for name, kind in there.items() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert {name: {base.__name__ for base in kind.__bases__} for name, kind in raised.items()} == told
    assert all(row.count("|") == 5 for row in text.splitlines() if row.startswith("| `"))
