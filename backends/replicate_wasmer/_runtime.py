"""The one place that imports wasmer, which is there for few Pythons: on others PyPI has a stub that can't be imported."""

from __future__ import annotations

import importlib
import platform
import sys
from typing import Any

__all__ = ["MISSING", "compiler", "wasmer"]

wasmer: Any = None
compiler: Any = None
MISSING: str | None = None
"""Why wasmer can't be used here and what to do, or None."""

try:
    # Typed as anything: where it isn't installed there's nothing to check against.
    wasmer = importlib.import_module("wasmer")
    compiler = importlib.import_module("wasmer_compiler_cranelift").Compiler
except ImportError as error:
    if sys.version_info >= (3, 11) or platform.python_implementation() != "CPython":
        cure = "run this with CPython 3.10, or use engine='wasmtime'"
    else:
        cure = "install it: pip install 'wasm-replicate[wasmer]', or use engine='wasmtime'"
    MISSING = (
        f"wasmer can't be imported: {error}. Its last release, 1.1.0, runs on x86-64 with CPython up to 3.10; this is "
        f"{platform.python_implementation()} {platform.python_version()} on {platform.machine()}: {cure}"
    )
