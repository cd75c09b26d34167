"""What tests of all rooms need: Ctrl-C that works in what they start, and Trealla's module. And what needs no second run."""

from __future__ import annotations

import fnmatch
import gc
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

# A shell starts what runs in its background with SIGINT ignored, and children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# -- what runs again ---------------------------------------------------------------------------------------------------

# The README's command runs every test. `--again` runs them once more with one thing changed, be it the kind of memory or the
# Python, and thins out what that thing hardly touches: of the tests that a pattern names, one in so many runs, or none at 0.
# The first pattern that fits counts, and each Python takes another part. What no pattern names runs again as a whole.
AGAIN: dict[str, list[tuple[str, int, str]]] = {
    "memory": [
        ("*processes*", 0, "workers get their memory from a log, whatever is chosen"),
        ("tests/core/test_copy_on_write.py*", 0, "its tests choose"),
        ("tests/core/test_history.py*", 0, "its tests choose"),
        ("tests/core/test_pool_state.py*", 0, "it has no memory"),
        ("tests/core/test_private_pages.py*", 0, "it has no memory"),
        ("tests/core/test_torn.py*", 0, "its tests choose"),
        ("tests/core/*", 1, ""),
        ("tests/engine/*", 1, ""),
        ("tests/trealla/*", 3, "a large guest that grows; but most of its tests are about Prolog"),
        ("*", 0, "other rooms open few pools, or choose"),
    ],
    "python": [
        ("tests/binary/test_scanner.py*", 4, "arithmetic on bytes"),
        ("tests/cli/*", 4, "most start an interpreter or measure; what is printed is the same everywhere"),
        ("tests/core/test_hammer.py*processes*", 0, "a long run"),
        ("tests/core/test_history.py*", 0, "long runs"),
        ("tests/core/test_pool_machine.py*processes*", 0, "a long run"),
        ("tests/core/test_torn.py*copy*", 0, "the other memory is struck at the same places"),
        ("tests/core/*processes*", 4, "tests/processes runs again as a whole"),
        ("tests/kit/test_coverage.py*", 0, "random modules are the same everywhere"),
        ("tests/kit/*guests*", 4, "the kit doesn't see less; its own tests run again"),
        ("tests/kit/test_helped.py::test_random*", 0, "a long run"),
        ("tests/kit/test_planted_bugs.py*", 4, "as above"),
        ("tests/kit/test_random_modules.py::test_modules_from*", 0, "a long run"),
        ("tests/processes/test_wasmer_environment.py*", 0, ".ci/run has begun with it"),
        ("tests/processes/test_workers.py::test_logs*", 0, "a long run"),
        ("tests/processes/test_workers.py::test_random_kills*", 0, "a long run"),
        ("tests/trealla/test_hammer.py*", 0, "a long run"),
        ("tests/trealla/*", 4, "most of what Prolog answers is the same everywhere"),
    ],
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--again", choices=sorted(AGAIN), help="run what this can break: see tests/conftest.py")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    again = config.getoption("--again")
    if again is None:
        return
    seen: Counter[str] = Counter()
    left_out = set()
    for item in items:
        pattern, one_in = next((row[:2] for row in AGAIN[again] if fnmatch.fnmatchcase(item.nodeid, row[0])), ("", 1))
        if not one_in or (seen[pattern] + sys.version_info.minor) % one_in:
            left_out.add(item)
        seen[pattern] += 1
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]


def pytest_collection_finish() -> None:
    """Keep what thousands of collected tests are made of out of every garbage collection that a test asks for."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def trealla() -> Path:
    """Give Trealla's module, npm's build: from the cache, or fetched. Where it can't be had, skip, but not in CI."""
    from replicate.errors import CacheError
    from replicate_trealla.fetch import module_path

    try:
        return module_path()
    except CacheError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"Trealla's module can't be had here: {error}")
