"""The guests' build: reproducible from any folder, and unforgiving."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("ziglang") is None, reason="the compiler isn't installed: pip install the extra 'dev'"
)


def run_build(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "wasm" / "build.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=root.parent)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The build's part of the repository, elsewhere."""
    root = tmp_path / "some where" / "else"
    shutil.copytree(ROOT / "wasm", root / "wasm", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "adapters" / "replicate_kv").mkdir(parents=True)
    shutil.copy(ROOT / "adapters" / "replicate_kv" / "kv.wasm", root / "adapters" / "replicate_kv")
    return root


def tree(root: Path) -> dict[Path, bytes]:
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@needs_compiler
def test_the_committed_module_is_what_its_sources_give() -> None:
    done = run_build(ROOT, "--check")
    assert (done.returncode, done.stderr) == (0, "")


@needs_compiler
def test_building_elsewhere_gives_the_same_bytes(copy: Path) -> None:
    (copy / "wasm" / "SHA256SUMS").unlink()
    (copy / "adapters" / "replicate_kv" / "kv.wasm").unlink()
    done = run_build(copy)
    assert (done.returncode, done.stderr) == (0, "")
    assert tree(copy / "adapters") == {
        Path("replicate_kv/kv.wasm"): (ROOT / "adapters/replicate_kv/kv.wasm").read_bytes()
    }
    assert (copy / "wasm" / "SHA256SUMS").read_bytes() == (ROOT / "wasm" / "SHA256SUMS").read_bytes()


@needs_compiler
def test_a_changed_source_is_noticed_and_nothing_is_written(copy: Path) -> None:
    source = copy / "wasm" / "kv.c"
    source.write_bytes(source.read_bytes().replace(b"FIRST_CAPACITY 64u", b"FIRST_CAPACITY 32u"))
    before = tree(copy)
    done = run_build(copy, "--check")
    assert done.returncode == 1
    assert "wasm/kv.c: SHA-256 is" in done.stderr
    assert "a fresh build: SHA-256 is" in done.stderr
    assert "run `python wasm/build.py`" in done.stderr
    assert tree(copy) == before


@needs_compiler
def test_a_changed_module_is_noticed(copy: Path) -> None:
    with (copy / "adapters" / "replicate_kv" / "kv.wasm").open("ab") as module:
        module.write(b"\0")
    done = run_build(copy, "--check")
    assert done.returncode == 1
    assert done.stderr.count("SHA-256") == 1
    assert "adapters/replicate_kv/kv.wasm: SHA-256 is" in done.stderr


@needs_compiler
def test_another_compiler_version_is_refused_with_what_to_install(copy: Path) -> None:
    script = copy / "wasm" / "build.py"
    script.write_text(script.read_text(encoding="utf-8").replace('VERSION = "', 'VERSION = "9.'), encoding="utf-8")
    done = run_build(copy, "--check")
    assert done.returncode == 1
    assert "another compiler gives other bytes; pip install ziglang==9." in done.stderr


@needs_compiler
def test_a_compile_error_is_shown(copy: Path) -> None:
    source = copy / "wasm" / "kv.c"
    source.write_bytes(source.read_bytes() + b"int unused(\n")
    done = run_build(copy)
    assert done.returncode == 1
    assert "exited with 1" in done.stderr
    assert "kv.c:" in done.stderr


def test_an_invalid_guest_in_wat_is_named(copy: Path) -> None:
    (copy / "wasm" / "wrong.wat").write_text("(module (func (result i32)))", encoding="utf-8")
    done = run_build(copy, "--check")
    assert done.returncode == 1
    assert "wrong.wat isn't valid" in done.stderr
