"""Where interpreters of a version may lie; whether they run is another question."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

from replicate.processes.environments import EngineEnvironment, environment_folder

__all__ = ["OTHERS", "PRIVATE", "THIS", "Place", "named_place", "private_python", "usual_places"]

THIS = "this interpreter"
PRIVATE = "its private environment"
OTHERS = "pyenv's versions, uv's interpreters, and the folders of $PATH and the system"
"""Where `usual_places` looks besides."""
_SYSTEM = ("/usr/bin", "/usr/local/bin")


@attrs.frozen
class Place:
    """Name a file that may be an interpreter, and say why it's looked at."""

    path: Path
    origin: str


def named_place(environment: EngineEnvironment) -> Place | None:
    """Give the interpreter that the engine's environment variable names, if it's set."""
    named = os.environ.get(environment.variable)
    if not named:
        return None
    found = shutil.which(named) if not os.path.dirname(named) else None
    return Place(Path(os.path.abspath(found or os.path.expanduser(named))), f"${environment.variable}")


def private_python(folder: Path) -> Path:
    """Give the interpreter of the virtual environment in `folder`."""
    return folder / "Scripts" / "python.exe" if os.name == "nt" else folder / "bin" / "python"


def usual_places(versions: Iterable[str], *, private_of: str | None = None) -> Iterator[Place]:
    """Give all files that may be an interpreter of these versions, each once, the likeliest first.

    `private_of` names the engine whose private environment is to be among them, there or not.
    """
    seen: set[tuple[str, str]] = set()
    for place in _all_places(tuple(versions), private_of):
        # Folders are reached by several names; the file itself isn't followed, or environments would be their base.
        key = (os.path.realpath(place.path.parent), place.path.name)
        if key not in seen:
            seen.add(key)
            yield place


def _all_places(versions: tuple[str, ...], private_of: str | None) -> Iterator[Place]:
    # In a frozen program this is the program itself, which would start again.
    if sys.executable and not getattr(sys, "frozen", False):
        yield Place(Path(sys.executable), THIS)
    if private_of is not None:
        yield Place(private_python(environment_folder(private_of)), PRIVATE)
    for version in versions:
        yield from _pyenv(version)
    for version in versions:
        yield from _uv(version)
    for version in versions:
        yield from _path(version)


def _pyenv(version: str) -> Iterator[Place]:
    root = Path(os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv"))
    for folder in _newest_first(root / "versions", f"{version}.*"):
        path = folder / ("python.exe" if os.name == "nt" else f"bin/python{version}")
        if path.exists():
            yield Place(path, "pyenv")


def _uv(version: str) -> Iterator[Place]:
    data = os.environ.get("XDG_DATA_HOME", "")
    base = Path(data if os.path.isabs(data) else os.path.expanduser("~/.local/share"))
    root = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or base / "uv" / "python")
    for path in _newest_first(root, f"*/bin/python{version}"):
        yield Place(path, "uv")


def _path(version: str) -> Iterator[Place]:
    listed = os.environ.get("PATH", "").split(os.pathsep)
    for folder in [*listed, *_SYSTEM]:
        path = Path(folder) / (f"python{version}.exe" if os.name == "nt" else f"python{version}")
        if os.path.isabs(folder) and path.is_file() and os.access(path, os.X_OK):
            yield Place(path, "$PATH" if folder in listed else "the system's")


def _newest_first(folder: Path, pattern: str) -> list[Path]:
    try:
        found = list(folder.glob(pattern))
    except OSError:
        return []
    return sorted(found, key=lambda path: [int(each) for each in re.findall(r"\d+", str(path))], reverse=True)
