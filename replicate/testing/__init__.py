"""The proof kit, for backend authors and for users' own modules. Needs the extra ``wasm-replicate[testing]``.

For one's own module: `assert_replicable` runs it beside a copy whose state is carried over a snapshot after every call, and
`SnapshotMachine` goes back and forth between snapshots. For a backend: `EngineTests` and `PoolTests` are its whole contract,
to be subclassed in a test module that names the engine, and `assert_engine_replicates` tries random modules on it. For more:
`modules` and `generate` make random modules, `calls` draws calls of a module, and `Oracle` compares.
"""

from __future__ import annotations

from replicate.testing import _extra as _extra
from replicate.testing.carriers import Carrier, carrier_names
from replicate.testing.engine_tests import EngineTests
from replicate.testing.features import Feature, features_of
from replicate.testing.machine import SnapshotMachine
from replicate.testing.oracle import Divergence, DivergenceError, Oracle
from replicate.testing.pool_tests import PoolTests
from replicate.testing.random_calls import Call, callable_exports, calls, values
from replicate.testing.random_modules import GeneratedModule, generate, modules
from replicate.testing.random_runs import assert_engine_replicates
from replicate.testing.replicable import assert_replicable
from replicate.testing.subject import Subject, default_imports

__all__ = [
    "Call",
    "Carrier",
    "Divergence",
    "DivergenceError",
    "EngineTests",
    "Feature",
    "GeneratedModule",
    "Oracle",
    "PoolTests",
    "SnapshotMachine",
    "Subject",
    "assert_engine_replicates",
    "assert_replicable",
    "callable_exports",
    "calls",
    "carrier_names",
    "default_imports",
    "features_of",
    "generate",
    "modules",
    "values",
]
