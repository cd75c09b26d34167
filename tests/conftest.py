"""What tests of all rooms need: Ctrl-C that works in what they start, and Trealla's module."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

# A shell starts what runs in its background with SIGINT ignored, and children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


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
