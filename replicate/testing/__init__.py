"""The proof kit, for backend authors and for users' own modules. Needs the extra ``wasm-replicate[testing]``.

`EngineTests` is the whole contract of a backend: subclass it in a test module, name the engine, and pytest runs it.
"""

from __future__ import annotations

from replicate.testing.engine_tests import EngineTests

__all__ = ["EngineTests"]
