"""Run the command line in this process, or as its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
from typer.testing import CliRunner

from replicate.cli.app import app
from replicate.cli.terminal import terminal

KV = Path(__file__).parents[2] / "adapters/replicate_kv/kv.wasm"


@attrs.frozen
class Result:
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def kv_path() -> Path:
    return KV


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `replicate` with these arguments in this process; what isn't its own error is raised."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("NO_COLOR", "1")
    # The consoles read their width when they're made, which was when this process imported them.
    monkeypatch.setattr(terminal, "_out", terminal._console(stderr=False))
    monkeypatch.setattr(terminal, "_err", terminal._console(stderr=True))

    def invoke(*arguments: str, stdin: bytes | None = None) -> Result:
        result = CliRunner().invoke(app, list(arguments), input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Result(result.exit_code, result.stdout, result.stderr)

    return invoke


@pytest.fixture
def run_process(tmp_path: Path) -> Run:
    """Run `replicate` with these arguments as a process of its own, in an empty folder."""

    def invoke(*arguments: str, stdin: bytes | None = None, **environment: str) -> Result:
        done = subprocess.run(
            [sys.executable, "-m", "replicate.cli", *arguments],
            input=stdin,
            capture_output=True,
            cwd=tmp_path,
            env={**os.environ, **environment},
            timeout=240,
        )
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    return invoke
