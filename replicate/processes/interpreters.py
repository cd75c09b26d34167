"""Find an interpreter that an engine's runtime can be imported in."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

from replicate.errors import EngineUnavailableError
from replicate.registry import load_engine

__all__ = ["find_interpreter"]


@functools.cache
def find_interpreter(engine: str) -> Path:
    """Give an interpreter for workers of this engine; raise `EngineUnavailableError` saying what was looked at."""
    try:
        load_engine(engine)
    except EngineUnavailableError as error:
        reason = error
    else:
        return Path(sys.executable)
    variable = f"REPLICATE_{engine.upper()}_PYTHON"
    named = os.environ.get(variable)
    candidates = [Path(named)] if named else sorted(Path.home().glob(".pyenv/versions/3.10.*/bin/python"))
    for path in candidates:
        if _imports(path, engine):
            return path
    raise EngineUnavailableError(
        f"engine {engine!r} can't run in this interpreter ({reason}), and no other was found that can import it; "
        f"looked at: {', '.join(map(str, candidates)) or 'none'}. Set ${variable} to one that can"
    ) from reason


def _imports(path: Path, module: str) -> bool:
    """Tell whether the interpreter runs and imports the module."""
    try:
        done = subprocess.run([path, "-c", f"import {module}, attrs"], capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
