"""What wasmer needs of an interpreter; this imports no part of it."""

from __future__ import annotations

from replicate.processes.environments import EngineEnvironment

__all__ = ["ENVIRONMENT"]

ENVIRONMENT = EngineEnvironment(
    modules=("wasmer", "wasmer_compiler_cranelift"),
    requirements=("wasmer==1.1.0", "wasmer_compiler_cranelift==1.1.0"),
    # There are wheels for these only; elsewhere pip installs a stand-in that can't be imported.
    pythons=("3.10", "3.9", "3.8", "3.7"),
    machines=("x86_64",),
    variable="REPLICATE_WASMER_PYTHON",
)
