"""Find an interpreter for an engine's worker processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from replicate.errors import EngineUnavailableError
from replicate.processes.environments import (
    CORE_MODULES,
    CORE_REQUIREMENTS,
    EngineEnvironment,
    find_environment,
    load_environment,
)
from replicate.processes.places import OTHERS, PRIVATE, THIS, Place, named_place, usual_places
from replicate.processes.probing import Probed, describe_this, probe
from replicate.registry import load_engine

__all__ = ["Candidate", "candidates", "explain_candidates", "find_base", "find_interpreter", "try_interpreter"]

_BASE_MODULES = ("ensurepip", "venv")


@attrs.frozen
class Candidate:
    """Hold one interpreter that was looked at: it does if `problem` is None."""

    path: Path
    origin: str
    """Why it was looked at: the environment variable that names it, ``pyenv``, ``$PATH``, ..."""
    version: str | None
    """Its Python version, None if it couldn't be run."""
    problem: str | None

    def __str__(self) -> str:
        return f"{self.path} ({self.origin}) {self.problem or f'is Python {self.version}'}"


def find_interpreter(engine: str) -> Path:
    """Give an interpreter that the engine's worker processes can run under; each is tried once for this process.

    An engine that declares no environment of its own runs under this one. Raises `EngineUnavailableError` with everything
    that was looked at and what to do, and `UnknownEngineError` for a name that isn't registered.
    """
    if find_environment(engine) is None:
        load_engine(engine)
        return Path(sys.executable)
    looked_at: list[Candidate] = []
    for candidate in candidates(engine):
        if candidate.problem is None:
            return candidate.path
        looked_at.append(candidate)
    raise EngineUnavailableError(explain_candidates(engine, looked_at))


def candidates(engine: str) -> Iterator[Candidate]:
    """Look at each interpreter that might do for the engine's workers, in the order of preference, when it's asked for.

    If the engine's environment variable is set, it names the only one. Otherwise they are this interpreter, the private
    environment, pyenv's, uv's and those in ``$PATH``. Raises as `find_interpreter` does for a wrong name.
    """
    environment = load_environment(engine)
    named = named_place(environment)
    places = usual_places(environment.usable_pythons, private_of=engine) if named is None else [named]
    modules, distributions = CORE_MODULES + environment.modules, tuple(environment.pins)
    for place in places:
        yield _try(environment, place, modules, distributions)


def explain_candidates(engine: str, looked_at: Sequence[Candidate]) -> str:
    """Say why none of the interpreters that were looked at does, and what to do."""
    environment = load_environment(engine)
    needs = ", ".join(f"'{each}'" for each in (*CORE_REQUIREMENTS, *environment.requirements))
    named = named_place(environment)
    if named is not None:
        return (
            f"${environment.variable}, which names the interpreter for workers of engine {engine!r}, doesn't do: "
            f"{'; '.join(map(str, looked_at))}. Have it name {environment.wanted} with {needs} installed, or unset it"
        )
    lines = [
        f"no interpreter was found for workers of engine {engine!r}, which need {environment.wanted}:",
        *map(str, looked_at),
        f"no other was found among {OTHERS}",
    ]
    return "\n  - ".join(lines) + (
        f"\nLet one be set up with: replicate engines install {engine}\n"
        f"or set ${environment.variable} to {environment.wanted} with {needs} installed"
    )


def find_base(engine: str, *, python: Path | None = None) -> Candidate:
    """Find an interpreter to build the engine's private environment from; `python` names the only one to look at.

    Raises `EngineUnavailableError` with what was looked at.
    """
    environment = load_environment(engine)
    named = named_place(environment)
    if python is not None:
        places = [Place(python.absolute(), "--python")]
    else:
        places = [*([] if named is None else [named]), *usual_places(environment.usable_pythons)]
    looked_at = []
    for place in places:
        candidate = _try(environment, place, _BASE_MODULES)
        if candidate.problem is None:
            return candidate
        looked_at.append(candidate)
    lines = [
        f"no interpreter was found to build the environment of engine {engine!r} with; it takes {environment.wanted}:",
        *map(str, looked_at),
        *([] if python is not None else [f"no other was found among {OTHERS}"]),
    ]
    raise EngineUnavailableError(
        "\n  - ".join(lines) + f"\nInstall {environment.wanted}, or name one that lies elsewhere with --python"
    )


def try_interpreter(engine: str, path: Path, origin: str) -> Candidate:
    """Run the interpreter at `path`, and say whether the engine's workers can run under it."""
    environment = load_environment(engine)
    return _try(environment, Place(path, origin), CORE_MODULES + environment.modules, tuple(environment.pins))


def _try(
    environment: EngineEnvironment, place: Place, modules: tuple[str, ...], distributions: tuple[str, ...] = ()
) -> Candidate:
    probed = None
    if place.origin == THIS:
        known = describe_this()
        probed = known if _wrong_python(environment, known) else None
    elif place.origin == PRIVATE and not os.path.lexists(place.path):
        return Candidate(place.path, place.origin, None, "hasn't been installed")
    if probed is None:
        probed = probe(place.path, modules, distributions)
    problem = probed.problem or _wrong_python(environment, probed) or _wrong_packages(environment, probed)
    return Candidate(place.path, place.origin, probed.version, problem)


def _wrong_python(environment: EngineEnvironment, probed: Probed) -> str | None:
    version = ".".join((probed.version or "").split(".")[:2])
    right = probed.implementation == "CPython" and version in environment.usable_pythons
    if right and probed.machine in environment.machines:
        return None
    return f"is {probed.implementation} {probed.version} on {probed.machine}"


def _wrong_packages(environment: EngineEnvironment, probed: Probed) -> str | None:
    if probed.failed:
        absent = [name for name, reason in probed.failed.items() if reason.startswith("ModuleNotFoundError")]
        refused = [f"{name} ({reason})" for name, reason in probed.failed.items() if name not in absent]
        parts = [f"has no {', '.join(absent)}"] if absent else []
        return " and ".join(parts + ([f"can't import {', '.join(refused)}"] if refused else []))
    wrong = {name: found for name, found in probed.installed.items() if found != environment.pins[name]}
    if wrong:
        return "has " + ", ".join(f"{name} {found}, not {environment.pins[name]}" for name, found in wrong.items())
    return None
