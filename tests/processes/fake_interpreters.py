"""An engine that nobody has, and shell scripts that pretend to be interpreters for it."""

from __future__ import annotations

import json
import sys
import types
from importlib import metadata
from pathlib import Path

import attrs
import pytest

from replicate.processes import places, probing
from replicate.processes.environments import EngineEnvironment

ENVIRONMENT = EngineEnvironment(
    modules=("fakeruntime",),
    requirements=("fakeruntime==2.0", "helper>=1"),
    pythons=("3.98", "3.97"),
    machines=("x86_64",),
    variable="FAKE_PYTHON",
)
RIGHT = {
    "implementation": "CPython",
    "version": "3.98.1",
    "machine": "x86_64",
    "failed": {},
    "installed": {"fakeruntime": "2.0"},
}
# It answers, makes environments whose interpreter is a link to it, and "installs" as it is told to.
_SCRIPT = """#!/bin/sh
printf 'ran %s\\n' "$1 $2" | /usr/bin/head -n 1 >> "{log}"
case "$1 $2" in
"-m venv") /bin/mkdir -p "$3/bin" && /bin/ln -s "$0" "$3/bin/python" ;;
"-m pip") {pip} ;;
*) {answer} ;;
esac
"""


@attrs.define(eq=False)
class World:
    """All places that interpreters are looked for in, empty at first, in one folder."""

    root: Path
    monkeypatch: pytest.MonkeyPatch

    def register(self, environment: object = ENVIRONMENT, *, value: str = "fake_backend:ENVIRONMENT") -> None:
        """Have two engines: "fake", and "plain", which declares no environment."""
        backend = types.ModuleType("fake_backend")
        backend.ENVIRONMENT = environment  # type: ignore[attr-defined]
        self.monkeypatch.setitem(sys.modules, "fake_backend", backend)
        groups = {
            "replicate.engines": {
                "fake": "no_such_runtime_here:Engine",
                "plain": "replicate_wasmtime:WasmtimeEngine",
            },
            "replicate.engine_environments": {"fake": value},
        }
        self.monkeypatch.setattr(
            metadata,
            "entry_points",
            lambda *, group: [metadata.EntryPoint(name, to, group) for name, to in groups.get(group, {}).items()],
        )

    def script(self, path: str, answer: str, *, pip: str = "echo Successfully installed", log: str = "log") -> Path:
        """Put an executable script there, which runs the shell command `answer` when it's asked what it is."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)  # or what it links to would be changed
        file.write_text(_SCRIPT.format(answer=answer, pip=pip, log=self.root / log))
        file.chmod(0o755)
        return file

    def python(self, path: str, *, pip: str = "echo Successfully installed", **said: object) -> Path:
        """Put an interpreter there that does, apart from what's given of its answer."""
        return self.script(path, f"printf '%s\\n' '{json.dumps({**RIGHT, **said})}'", pip=pip)

    def runs(self, what: str = "-c") -> int:
        """Count how often scripts were run for this."""
        log = self.root / "log"
        return sum(line.startswith(f"ran {what}") for line in log.read_text().splitlines()) if log.exists() else 0


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    if sys.platform == "win32":
        pytest.skip("the fake interpreters are shell scripts")
    world = World(tmp_path, monkeypatch)
    for name, folder in {
        "PATH": "path",
        "PYENV_ROOT": "pyenv",
        "UV_PYTHON_INSTALL_DIR": "uv",
        "REPLICATE_CACHE_DIR": "cache",
    }.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    monkeypatch.delenv("FAKE_PYTHON", raising=False)
    monkeypatch.setattr(places, "_SYSTEM", (str(tmp_path / "system"),))
    monkeypatch.setattr(probing, "_probed", {})
    world.register()
    return world
