"""The contract of a backend, for wasmer inside this process, and what only wasmer can get wrong."""

from __future__ import annotations

import pytest

from replicate import load_engine
from replicate.errors import EngineUnavailableError
from replicate.testing import EngineTests


def why_not() -> str:
    """Say why wasmer can't be used here; empty if it can."""
    try:
        load_engine("wasmer")
    except EngineUnavailableError as error:
        return str(error)
    return ""


WHY_NOT = why_not()
needs_wasmer = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)


@needs_wasmer
class TestWasmer(EngineTests):
    engine_name = "wasmer"
