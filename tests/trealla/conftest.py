"""The Trealla module for these tests: from the cache, or fetched through npm; in CI it must be had."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from replicate_trealla import PrologPool
from replicate_trealla.fetch import module_path

from replicate.errors import CacheError

PUSH = os.environ.get("REPLICATE_TREALLA_PUSH_WASM")


@pytest.fixture(scope="session")
def npm_module() -> Path:
    """Give the npm build."""
    try:
        return module_path()
    except CacheError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"the Trealla module can't be fetched: {error}")


@pytest.fixture(
    params=[
        "npm",
        pytest.param(
            "push",
            marks=pytest.mark.skipif(
                not PUSH, reason="REPLICATE_TREALLA_PUSH_WASM doesn't name the Go embedding's libtpl.wasm; bring that file"
            ),
        ),
    ],
)
def wasm(request: pytest.FixtureRequest) -> Path:
    """Give the module of each ABI."""
    if request.param == "push":
        return Path(PUSH or "")
    path: Path = request.getfixturevalue("npm_module")
    return path


@pytest.fixture
def pool(wasm: Path) -> Iterator[PrologPool]:
    """Open a pool with a small program."""
    program = ":- dynamic(edge/2). edge(a, b). edge(b, c). path(X, Y) :- edge(X, Y). path(X, Z) :- edge(X, Y), path(Y, Z)."
    with PrologPool(wasm=wasm, replicas=2, program=program) as opened:
        yield opened
