"""Ask an interpreter what it is and what it can import, by running it: a file's name proves nothing.

A version manager's stand-in named ``python3.10`` can be there without the version behind it, and a package can be installed
and refuse to be imported.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import attrs

from replicate.processes.children import describe_status, run_child

__all__ = ["TIMEOUT", "Probed", "describe_this", "environment_for", "forget_probes", "probe"]

TIMEOUT = 30.0
"""How long an interpreter may take to answer, in seconds; far more than it needs, for machines that are busy."""

# Any Python since 2.7 has to understand this, if only to say that it's too old. What lies in the present folder doesn't count.
_SCRIPT = """
import sys
sys.path[:] = [each for each in sys.path if each]
import json, platform
asked = json.loads(sys.argv[1])
failed, installed = {}, {}
for name in asked["modules"]:
    try:
        __import__(name)
    except BaseException as error:
        failed[name] = type(error).__name__ + ": " + str(error)
for name in asked["distributions"]:
    try:
        from importlib import metadata
        installed[name] = metadata.version(name)
    except Exception:
        installed[name] = None
machine = platform.machine() + ("" if sys.maxsize > 2**32 else " with 32 bits")
print("")
print(json.dumps({
    "implementation": platform.python_implementation(), "version": platform.python_version(), "machine": machine,
    "failed": failed, "installed": installed,
}))
"""


@attrs.frozen(kw_only=True)
class Probed:
    """Hold what an interpreter said of itself; `problem` is why it said nothing."""

    implementation: str | None = None
    version: str | None = None
    machine: str | None = None
    failed: dict[str, str] = attrs.field(factory=dict)
    """Why each module that can't be imported can't be."""
    installed: dict[str, str | None] = attrs.field(factory=dict)
    """The version of each distribution that was asked for."""
    problem: str | None = None


_probed: dict[tuple[str, tuple[str, ...], tuple[str, ...]], Probed] = {}


def probe(path: Path, modules: tuple[str, ...], distributions: tuple[str, ...] = ()) -> Probed:
    """Run the interpreter at `path` once for this process and give what it says about itself and these modules."""
    key = (str(path), modules, distributions)
    found = _probed.get(key)
    if found is None:
        found = _probed[key] = _run(path, modules, distributions)
    return found


def forget_probes() -> None:
    """Ask again from now on, something has been installed."""
    _probed.clear()


def _machine(name: str) -> str:
    """Name a processor as Linux does, wherever it's asked."""
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name.lower(), name.lower())


def describe_this() -> Probed:
    """Give what is known of this interpreter without running another one."""
    return Probed(
        implementation=platform.python_implementation(),
        version=platform.python_version(),
        machine=_machine(platform.machine()),
    )


def environment_for(path: Path) -> dict[str, str]:
    """Give the environment variables to run the interpreter at `path` with: another one must not load this one's library."""
    environment = dict(os.environ)
    if str(path) != sys.executable:
        for name in ("PYTHONHOME", "PYTHONPATH", "__PYVENV_LAUNCHER__"):
            environment.pop(name, None)
    return environment


def _run(path: Path, modules: tuple[str, ...], distributions: tuple[str, ...]) -> Probed:
    asked = json.dumps({"modules": modules, "distributions": distributions})
    try:
        done = run_child([str(path), "-c", _SCRIPT, asked], environment_for(path), timeout=TIMEOUT)
    except TimeoutError:
        return Probed(problem=f"gave no answer within {TIMEOUT:g} s")
    except OSError as error:
        return Probed(problem=f"can't be run: {error.strerror or error}")
    if done.status != 0:
        # What a traceback ends with, and what a script begins with.
        said = _last_line(done.err) if "Traceback" in done.err else done.err.strip().partition("\n")[0][:2000]
        return Probed(problem=describe_status(done.status) + (f": {said}" if said else ""))
    return _read(_last_line(done.out))


def _last_line(text: str) -> str:
    lines = text.split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")[:2000]


def _read(line: str) -> Probed:
    try:
        said: Any = json.loads(line)
        return Probed(
            implementation=str(said["implementation"]),
            version=str(said["version"]),
            machine=_machine(str(said["machine"])),
            failed={str(name): str(reason) for name, reason in said["failed"].items()},
            installed={str(name): version and str(version) for name, version in said["installed"].items()},
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return Probed(problem=f"isn't a Python interpreter: asked what it is, it says {line[:60]!r}")
