"""Both families of Trealla modules: the tests that start one run on each. npm's must be had in CI."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from blocking import BlockingPool

from replicate_trealla import Prolog, PrologPool

PUSH = os.environ.get("REPLICATE_TREALLA_PUSH_WASM")


@pytest.fixture(
    scope="session",
    params=[
        "npm",
        pytest.param(
            "push",
            marks=pytest.mark.skipif(
                not PUSH,
                reason="REPLICATE_TREALLA_PUSH_WASM doesn't name the Go embedding's libtpl.wasm; bring that file",
            ),
        ),
    ],
)
def wasm(request: pytest.FixtureRequest) -> Path:
    """Give the module of each ABI."""
    if request.param == "push":
        return Path(PUSH or "")
    path: Path = request.getfixturevalue("trealla")
    return path


@pytest.fixture(scope="session")
def is_npm(wasm: Path) -> bool:
    """Tell whether the module is npm's, whose Trealla is two years older."""
    return b"host-push-answer" not in wasm.read_bytes()


@pytest.fixture(params=["threads", "asyncio"])
def kind(request: pytest.FixtureRequest) -> Any:
    """Give both kinds of pool, to be used by the same calls."""
    return {"threads": PrologPool, "asyncio": BlockingPool}[request.param]


@pytest.fixture
def pool(wasm: Path, kind: Any) -> Iterator[PrologPool]:
    """Open a pool with a small program."""
    program = (
        ":- dynamic(edge/2). edge(a, b). edge(b, c). path(X, Y) :- edge(X, Y). path(X, Z) :- edge(X, Y), path(Y, Z)."
    )
    with kind(wasm=wasm, replicas=2, program=program) as opened:
        yield opened


@pytest.fixture
def open_pool(wasm: Path, kind: Any) -> Iterator[Callable[..., PrologPool]]:
    """Give a function that opens pools, to be closed at the end."""
    pools: list[PrologPool] = []

    def open_one(**options: Any) -> PrologPool:
        pools.append(kind(wasm=wasm, **options))
        return pools[-1]

    yield open_one
    for opened in pools:
        opened.close()


@pytest.fixture
def single(wasm: Path) -> Iterator[Prolog]:
    """Open an interpreter without a pool."""
    with Prolog(wasm=wasm) as opened:
        yield opened


@pytest.fixture(scope="module")
def shared(wasm: Path) -> Iterator[Prolog]:
    """Keep an interpreter for questions that change nothing."""
    with Prolog(wasm=wasm, program="fact(1). fact(2). fact(3).") as opened:
        yield opened
