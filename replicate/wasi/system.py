"""A WASI configuration made ready for the functions to use."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs

from replicate.wasi.clocks import Clock
from replicate.wasi.hostfiles import Roots

__all__ = ["System"]


@attrs.frozen(eq=False)
class System:
    """Be what every WASI function gets besides its caller; holds nothing of any guest."""

    args: tuple[bytes, ...]
    """Each ends with a zero byte."""
    environ: tuple[bytes, ...]
    """``name=value``, each ending with a zero byte."""
    stdin: bytes
    granted: Mapping[str, int]
    """The rights that each preopened folder grants, by the guest's name of it."""
    roots: Roots
    seed_key: bytes | None
    clock: Clock
    sinks: Mapping[str, Callable[[bytes], object] | None]
    """Who takes a standard stream's output; None where it is captured."""
    capture_limit: int
    """Bytes per stream."""
    line_buffered: bool
    max_sleep_ns: int
    descriptor_limit: int
