"""wasmer's environment, really installed; where there's no base for it, that is said, and in CI it's a failure."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from replicate.errors import EngineUnavailableError
from replicate.processes.installing import install_environment
from replicate.processes.interpreters import candidates, find_base, find_interpreter
from replicate.processes.places import THIS
from replicate.processes.probing import environment_for, forget_probes

CODE = """
import attrs, wasmer, wasmer_compiler_cranelift
store = wasmer.Store(wasmer.engine.Universal(wasmer_compiler_cranelift.Compiler))
text = '(module (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))'
print(wasmer.Instance(wasmer.Module(store, text)).exports.add(40, 2))
"""


@pytest.mark.timeout(900)
def test_wasmer_runs_in_the_environment_that_is_installed_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPLICATE_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("REPLICATE_WASMER_PYTHON", raising=False)
    forget_probes()
    try:
        find_base("wasmer")
    except EngineUnavailableError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    installed = install_environment("wasmer")
    python = installed.interpreter.path
    done = subprocess.run([python, "-c", CODE], capture_output=True, text=True, env=environment_for(python))

    assert (done.stdout, done.stderr) == ("42\n", "")
    assert installed.interpreter in list(candidates("wasmer"))
    # On a Python that wasmer is made for, this interpreter comes first.
    first = next(each for each in candidates("wasmer") if each.problem is None)
    assert find_interpreter("wasmer") == (first.path if first.origin == THIS else python)
    forget_probes()
