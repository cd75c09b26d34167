"""WASI preview 1 for guests that are replicated: whatever lasts is part of the guest's state.

`Wasi` is the configuration. Its `imports` are what a module is given to import, `stdout`, `stderr` and `take_output`
tell what a guest has printed, `check_replicable` what of its open descriptors a replica couldn't have.
"""

from __future__ import annotations

from replicate.wasi.clocks import Clock, FixedClock, SystemClock
from replicate.wasi.config import Preopen, Wasi
from replicate.wasi.errno import Errno
from replicate.wasi.output import Output, OutputMode

__all__ = ["Clock", "Errno", "FixedClock", "Output", "OutputMode", "Preopen", "SystemClock", "Wasi"]
