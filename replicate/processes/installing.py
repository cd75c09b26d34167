"""Build the private environment that an engine's worker processes run in."""

from __future__ import annotations

import collections
import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from replicate.errors import EngineError
from replicate.processes.children import describe_status, stream_child
from replicate.processes.environments import CORE_REQUIREMENTS, environment_folder, load_environment
from replicate.processes.interpreters import Candidate, find_base, try_interpreter
from replicate.processes.places import PRIVATE, private_python
from replicate.processes.probing import environment_for, forget_probes

__all__ = ["Installed", "install_environment"]

_LINES_SHOWN = 12
_TRIES = 20
_ABANDONED = 86400.0
"""After how many seconds an unfinished environment is nobody's."""
_UNSUITABLE_FOR_PIP = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON", "PIP_DRY_RUN")
"""Settings of pip's that send packages elsewhere."""


@attrs.frozen
class Installed:
    """Hold the interpreter of an engine's private environment; `built` is False if it was there and worked."""

    folder: Path
    interpreter: Candidate
    built: bool


def install_environment(
    engine: str,
    *,
    force: bool = False,
    python: Path | None = None,
    on_progress: Callable[[str], None] = lambda what: None,
) -> Installed:
    """Build the engine's private environment, unless it's there and works; `force` builds it again.

    It's built with the interpreter at `python`, or with one that's found, beside its final place and then renamed: one that
    fails leaves nothing, and several at once do no harm. One that works, but was built with another interpreter than `python`,
    stays, and is an error. pip is told nothing but what to install: its own settings say where from. `on_progress` is called
    with a line about what's being done. Hazard: workers that run under an environment which is replaced can't import anything
    more.

    Raises `UnknownEngineError`, `EngineUnavailableError` where no interpreter fits, and `EngineError` for an engine that
    needs no environment, for one that another interpreter built, for a failure of pip, and for a folder that can't be written.
    """
    load_environment(engine)
    folder = environment_folder(engine)
    base = None if python is None else find_base(engine, python=python)
    if not force:
        on_progress("looking at what is there")
        present = _present(engine, folder)
        if present.problem is None:
            _check_base(engine, present, base)
            return Installed(folder, present, built=False)
    if base is None:
        on_progress("looking for an interpreter")
        base = find_base(engine)
    try:
        return _build(engine, base, folder, force, on_progress)
    except OSError as error:
        raise EngineError(
            f"can't build the environment of engine {engine!r} in {folder.parent}: {error}; make room there, or set "
            "REPLICATE_CACHE_DIR to another folder"
        ) from error


def _check_base(engine: str, present: Candidate, base: Candidate | None) -> None:
    """Raise `EngineError` for an environment whose interpreter isn't the one that was asked for."""
    # The interpreter of an environment is a link to the one that it was made with, or to what that links to.
    if base is not None and os.path.realpath(base.path) != os.path.realpath(present.path):
        raise EngineError(
            f"engine {engine!r} has an environment that works, built with {os.path.realpath(present.path)}; to build it again "
            f"with {base.path} use --force (force=True)"
        )


def _present(engine: str, folder: Path) -> Candidate:
    forget_probes()
    return try_interpreter(engine, private_python(folder), PRIVATE)


def _build(engine: str, base: Candidate, folder: Path, force: bool, on_progress: Callable[[str], None]) -> Installed:
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _clear_abandoned(folder)
    new = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{folder.name}.new-"))
    try:
        _run(
            f"making an environment with {base.path}", [str(base.path), "-m", "venv", str(new)], base.path, on_progress
        )
        inside = private_python(new)
        requirements = [*CORE_REQUIREMENTS, *load_environment(engine).requirements]
        command = [str(inside), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
        command += ["--progress-bar", "off", "--only-binary", ":all:", *requirements]
        _run(f"installing {', '.join(requirements)}", command, inside, on_progress)
        on_progress("trying it")
        tried = try_interpreter(engine, inside, PRIVATE)
        if tried.problem is not None:
            raise EngineError(
                f"the environment of engine {engine!r} was built with {base.path}, but doesn't do: its interpreter "
                f"{tried.problem}. Build it with another one: --python"
            )
        moved = _move_in(new, folder, lambda: not force and _present(engine, folder).problem is None)
        return Installed(folder, attrs.evolve(tried, path=private_python(folder)), built=moved)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        forget_probes()


def _run(what: str, command: Sequence[str], python: Path, on_progress: Callable[[str], None]) -> None:
    on_progress(what)
    last: collections.deque[str] = collections.deque(maxlen=_LINES_SHOWN)

    def note(line: str) -> None:
        if line.strip():
            last.append(line)
            on_progress(line.strip())

    environment = {name: value for name, value in environment_for(python).items() if name not in _UNSUITABLE_FOR_PIP}
    status = stream_child(command, {**environment, "PIP_USER": "0"}, note)
    if status != 0:
        said = "".join(f"\n  {line}" for line in last) or " nothing"
        raise EngineError(f"{what} failed: it {describe_status(status)}, and at last said:{said}")


def _move_in(new: Path, folder: Path, keep: Callable[[], bool]) -> bool:
    """Put `new` where `folder` is, unless what's there is to be kept; say whether that was done."""
    for _ in range(_TRIES):
        with contextlib.suppress(OSError):
            new.rename(folder)
            return True
        # Another process may have been faster, and workers may run under what it has built.
        if keep():
            return False
        _take_away(folder)
    new.rename(folder)
    return True


def _take_away(folder: Path) -> None:
    trash = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{folder.name}.old-"))
    with contextlib.suppress(FileNotFoundError):
        folder.rename(trash / "environment")
    shutil.rmtree(trash, ignore_errors=True)


def _clear_abandoned(folder: Path) -> None:
    """Delete what killed processes have left."""
    for kind in ("new", "old"):
        for each in folder.parent.glob(f"{folder.name}.{kind}-*"):
            with contextlib.suppress(OSError):
                if time.time() - each.stat().st_mtime > _ABANDONED:
                    shutil.rmtree(each, ignore_errors=True)
