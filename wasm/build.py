"""Build the guests of this folder.

    python wasm/build.py            compile kv.c; write kv.wasm into its adapter, and SHA256SUMS
    python wasm/build.py --check    compile into a temporary folder; exit 1 unless all is as SHA256SUMS says

The build is reproducible: one version of one compiler, in a folder and with caches of its own. The guests in WAT are
compiled by whichever engine runs them, so here they are only validated, where wasmtime is installed.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

__all__ = ["BuildError", "build", "check", "compile_kv", "main", "validate_wat"]

ZIGLANG_VERSION = "0.17.1"

WASM = Path(__file__).resolve().parent
ROOT = WASM.parent
SOURCES = (WASM / "kv.c", WASM / "heap.h")
RESULT = ROOT / "adapters" / "replicate_kv" / "kv.wasm"
SUMS = WASM / "SHA256SUMS"

TARGET = ("--target=wasm32-freestanding", "-mcpu=mvp+bulk_memory+sign_ext", "-ffreestanding", "-fno-builtin")
CODE = ("-std=c11", "-O2", "-fno-sanitize=all", "-fomit-frame-pointer", "-Wall", "-Wextra", "-Werror")
# The linker is called by itself: the compiler driver would add a runtime library. The stack comes first so that an
# overflow leaves the memory, which traps, instead of running into the statics.
LINK = ("--no-entry", "--stack-first", "-z", "stack-size=65536", "--strip-all", "--fatal-warnings")


class BuildError(Exception):
    """Report a build that failed, or whose result isn't the pinned one."""


def _need_ziglang() -> None:
    how = f"pip install ziglang=={ZIGLANG_VERSION}"
    try:
        version = importlib.metadata.version("ziglang")
    except importlib.metadata.PackageNotFoundError as error:
        raise BuildError(f"the compiler isn't installed; {how}") from error
    if version != ZIGLANG_VERSION:
        raise BuildError(f"ziglang {version} is installed, and another compiler gives other bytes; {how}")


def _zig(arguments: Sequence[str], folder: Path) -> None:
    cache = str(folder / "cache")
    environment = {**os.environ, "ZIG_LOCAL_CACHE_DIR": cache, "ZIG_GLOBAL_CACHE_DIR": cache}
    command = [sys.executable, "-m", "ziglang", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"`ziglang {' '.join(arguments)}` exited with {done.returncode}:\n{done.stderr.strip()}")


def compile_kv() -> bytes:
    """Compile kv.c in a temporary folder and return the module; raise `BuildError`."""
    _need_ziglang()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for source in SOURCES:
            shutil.copy(source, folder)
        _zig(["cc", "-c", *TARGET, *CODE, "-o", "kv.o", "kv.c"], folder)
        _zig(["wasm-ld", *LINK, "-o", "kv.wasm", "kv.o"], folder)
        return (folder / "kv.wasm").read_bytes()


def validate_wat() -> str:
    """Validate every guest in WAT and say what was done; raise `BuildError`."""
    guests = sorted(WASM.glob("*.wat"))
    try:
        import wasmtime
    except ImportError:
        return f"{len(guests)} guests in WAT not validated: wasmtime isn't installed"
    engine = wasmtime.Engine()
    for guest in guests:
        try:
            wasmtime.Module(engine, guest.read_text(encoding="utf-8"))
        except wasmtime.WasmtimeError as error:
            raise BuildError(f"{guest.name} isn't valid: {error}") from error
    return f"{len(guests)} guests in WAT are valid"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def build() -> None:
    """Write kv.wasm and SHA256SUMS, in the format of `sha256sum --check` run in the repository's root."""
    module = compile_kv()
    RESULT.write_bytes(module)
    files = (*SOURCES, RESULT)
    lines = (f"{_digest(path.read_bytes())}  {_name(path)}\n" for path in files)
    SUMS.write_text("".join(lines), encoding="utf-8", newline="\n")
    print(f"wrote {_name(RESULT)} ({len(module)} bytes) and {_name(SUMS)}")


def check() -> None:
    """Compare the sources, the committed module and a fresh build with SHA256SUMS; raise `BuildError`."""
    lines = SUMS.read_text(encoding="utf-8").splitlines()
    pinned = {name: digest for digest, name in (line.split() for line in lines)}
    found = [(_name(path), _name(path), path.read_bytes()) for path in (*SOURCES, RESULT)]
    found.append(("a fresh build", _name(RESULT), compile_kv()))
    wrong = [
        f"{what}: SHA-256 is {_digest(data)}, {_name(SUMS)} says {pinned.get(name, 'nothing')}"
        for what, name, data in found
        if _digest(data) != pinned.get(name)
    ]
    if wrong:
        hint = "if the change is meant, run `python wasm/build.py` and commit what it writes"
        raise BuildError("\n".join([*wrong, hint]))
    print(f"{_name(RESULT)} is what its sources give")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Build the guests of this folder.")
    parser.add_argument("--check", action="store_true", help="rebuild elsewhere and compare; write nothing")
    options = parser.parse_args(arguments)
    try:
        print(validate_wat())
        check() if options.check else build()
    except BuildError as error:
        print(f"build.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
