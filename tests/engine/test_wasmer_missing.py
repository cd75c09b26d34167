"""Where wasmer can't be imported, the engine says so and what to do; nothing else of this library minds."""

from __future__ import annotations

import subprocess
import sys

from replicate import engine_names

CODE = """
import sys
sys.modules["wasmer"] = None  # importing it fails, as PyPI's stub does on newer Pythons
import replicate, replicate_wasmer
try:
    replicate.load_engine("wasmer")
except replicate.errors.EngineUnavailableError as error:
    print(error)
with replicate.load_engine("wasmtime").compile("(module (memory 1))").instantiate() as instance:
    print(instance.memory.size)
"""


def test_the_error_says_what_to_do() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said, size = done.stdout.splitlines()
    assert size == "65536"
    assert "wasmer can't be imported" in said
    assert "engine='wasmtime'" in said
    cure = "pip install 'wasm-replicate[wasmer]'" if sys.version_info < (3, 11) else "CPython 3.10"
    assert cure in said


def test_the_engine_is_listed_all_the_same() -> None:
    assert "wasmer" in engine_names()
