"""Pools for the tests of the core, behind one interface for threads and tasks."""

from __future__ import annotations

from typing import Any

import pytest
from drivers import DRIVERS


@pytest.fixture(params=sorted(DRIVERS))
def open_pool(request: pytest.FixtureRequest) -> Any:
    """Open pools that are closed after the test."""
    opened: list[Any] = []

    def make(*args: Any, **options: Any) -> Any:
        opened.append(DRIVERS[request.param](*args, **options))
        return opened[-1]

    yield make
    for pool in opened:
        pool.close()
