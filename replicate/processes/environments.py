"""What an engine's worker processes need of their interpreter, as the engine's backend declares it.

A backend whose runtime isn't there for every Python registers an `EngineEnvironment` under the entry point group
``replicate.engine_environments``, by the engine's name, in a module that doesn't import the runtime.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import attrs

from replicate.cache import cache_folder
from replicate.errors import EngineError, EngineUnavailableError
from replicate.registry import engine_point

__all__ = [
    "CORE_MODULES",
    "CORE_REQUIREMENTS",
    "LOWEST_PYTHON",
    "EngineEnvironment",
    "environment_folder",
    "find_environment",
    "load_environment",
]

_GROUP = "replicate.engine_environments"

LOWEST_PYTHON = (3, 10)
"""A worker runs this library's own code, which needs this Python."""
CORE_MODULES = ("attrs",)
CORE_REQUIREMENTS = ("attrs>=23.2",)


@attrs.frozen(kw_only=True)
class EngineEnvironment:
    """Say where an engine's runtime can be imported, and how to get it there."""

    modules: tuple[str, ...]
    """What has to be importable."""
    requirements: tuple[str, ...]
    """What pip installs for that; a version pinned with ``==`` is looked at in interpreters that have it already."""
    pythons: tuple[str, ...]
    """The CPython versions that the runtime is made for, the best one first, such as ``"3.10"``."""
    machines: tuple[str, ...]
    """The processors that it is made for, as `platform.machine` names them on Linux, such as ``"x86_64"``."""
    variable: str
    """The environment variable that names an interpreter to use, and no other."""

    @property
    def usable_pythons(self) -> tuple[str, ...]:
        """Give the versions that this library runs on, too."""
        return tuple(each for each in self.pythons if tuple(map(int, each.split("."))) >= LOWEST_PYTHON)

    @property
    def wanted(self) -> str:
        """Spell what an interpreter has to be: ``CPython 3.10 on x86_64``."""
        return f"CPython {' or '.join(self.usable_pythons)} on {' or '.join(self.machines)}"

    @property
    def pins(self) -> dict[str, str]:
        """Give the version of each distribution that's pinned."""
        parts = (each.partition("==") for each in self.requirements)
        return {name.strip(): version.strip() for name, pinned, version in parts if pinned}


def find_environment(engine: str) -> EngineEnvironment | None:
    """Give what the engine's workers need, or None where it declares nothing: it runs inside any process.

    Raises `UnknownEngineError` for a name that isn't registered, and `EngineUnavailableError` where what is declared can't be
    loaded.
    """
    engine_point(engine)
    point = next((each for each in metadata.entry_points(group=_GROUP) if each.name == engine), None)
    if point is None:
        return None
    try:
        environment = point.load()
    except (ImportError, AttributeError) as error:
        raise EngineUnavailableError(
            f"what the workers of engine {engine!r} need can't be loaded from {point.value}: {error}; "
            "reinstall the package that it comes from"
        ) from error
    if not isinstance(environment, EngineEnvironment):
        raise EngineUnavailableError(
            f"{point.value}, registered for engine {engine!r} under {_GROUP!r}, is of type {type(environment).__name__}: "
            "its package has to give an EngineEnvironment there"
        )
    return environment


def load_environment(engine: str) -> EngineEnvironment:
    """Give what the engine's workers need as `find_environment` does, or raise `EngineError` where it declares nothing."""
    environment = find_environment(engine)
    if environment is None:
        raise EngineError(
            f"engine {engine!r} needs no environment of its own: it runs inside this process, and is ready when "
            "its runtime is installed"
        )
    return environment


def environment_folder(engine: str) -> Path:
    """Give the folder of the private environment that ``replicate engines install`` builds for the engine."""
    return cache_folder() / "environments" / engine
