"""Where the module comes from. A stand-in for npm packs what each test wants."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from replicate.errors import CacheError, ChecksumError
from replicate_trealla import fetch

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for npm is a shell script")

MODULE = b"\0asm\1\0\0\0" + bytes(range(200))
OTHER = b"\0asm\1\0\0\0 another one"


def archive(*modules: bytes, member: str = "package/trealla.js") -> bytes:
    """Make a package whose script carries modules as the real one does."""
    literals = [f'const m{at} = "{base64.b64encode(module).decode()}";' for at, module in enumerate(modules)]
    script = "\n".join(literals).encode()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        info = tarfile.TarInfo(member)
        info.size = len(script)
        tar.addfile(info, io.BytesIO(script))
    return packed.getvalue()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty cache folder, a known digest, and no npm."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("REPLICATE_CACHE_DIR", str(folder))
    monkeypatch.delenv("REPLICATE_TREALLA_WASM", raising=False)
    monkeypatch.setattr(fetch, "DIGEST", hashlib.sha256(MODULE).hexdigest())
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return folder


@pytest.fixture
def npm(tmp_path: Path, cache: Path) -> Callable[..., Path]:
    """Give a function that puts an npm on the path, which packs `package`; it notes its calls in the file given back."""

    def install(package: bytes | None = None, *, status: int = 0, stderr: str = "", seconds: float = 0) -> Path:
        calls = tmp_path / "calls"
        (tmp_path / "package.tgz").write_bytes(package or b"")
        tools = {name: shutil.which(name, path="/usr/bin:/bin") for name in ("cp", "sleep")}
        copy = f'{tools["cp"]} "{tmp_path}/package.tgz" "$5/trealla-0.17.10.tgz"' if package is not None else ":"
        script = tmp_path / "bin" / "npm"
        script.write_text(
            f'#!/bin/sh\necho "$@" >> "{calls}"\n{tools["sleep"]} {seconds}\n{copy}\n'
            f"echo '{stderr}' >&2\nexit {status}\n"
        )
        script.chmod(0o755)
        return calls

    return install


def test_the_module_is_fetched_once_and_then_found(npm: Callable[..., Path], cache: Path) -> None:
    calls = npm(archive(OTHER, MODULE))
    told: list[str] = []

    path = fetch.fetch(progress=told.append)

    assert path.read_bytes() == MODULE
    assert path.is_relative_to(cache)
    assert len(told) == 3
    assert calls.read_text().startswith("pack trealla@0.17.10 ")
    assert [entry.name for entry in path.parent.iterdir()] == ["trealla-0.17.10.wasm"]
    (Path(os.environ["PATH"]) / "npm").unlink()
    assert fetch.module_path() == fetch.fetch() == fetch.cached_path() == path
    assert len(calls.read_text().splitlines()) == 1


def test_a_damaged_cache_is_fetched_again(npm: Callable[..., Path]) -> None:
    npm(archive(MODULE))
    path = fetch.fetch()
    path.write_bytes(MODULE[:-1])

    assert fetch.fetch().read_bytes() == MODULE


def test_without_npm_the_ways_out_are_told(cache: Path) -> None:
    with pytest.raises(CacheError, match=r"npm.*isn't installed: install Node\.js.*wasm=path"):
        fetch.module_path()
    assert not cache.exists()


@pytest.mark.parametrize(
    "package",
    [archive(OTHER), archive(), archive(MODULE, member="package/other.js"), b"no archive", archive(MODULE)[:40]],
    ids=["another module", "no module", "no script", "no archive", "cut off"],
)
def test_what_is_not_the_pinned_module_is_not_kept(npm: Callable[..., Path], cache: Path, package: bytes) -> None:
    npm(package)

    with pytest.raises(ChecksumError, match="nothing was kept"):
        fetch.fetch()
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_npm_s_own_words_are_told_when_it_fails(npm: Callable[..., Path], cache: Path) -> None:
    npm(status=1, stderr="npm error code ENOTFOUND")

    with pytest.raises(CacheError, match=r"(?s)failed with status 1.*network.*wasm=path.*ENOTFOUND") as caught:
        fetch.fetch()
    assert not isinstance(caught.value, ChecksumError)
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_an_npm_that_packs_nothing_has_failed(npm: Callable[..., Path]) -> None:
    npm()

    with pytest.raises(CacheError, match=r"status 0.*(?s:.*)\(nothing\)"):
        fetch.fetch()


def test_an_npm_that_never_ends_is_given_up(npm: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_SECONDS", 0.1)
    npm(archive(MODULE), seconds=5)

    with pytest.raises(CacheError, match="took longer"):
        fetch.fetch()


def test_a_cache_that_cannot_be_written_is_told(npm: Callable[..., Path], cache: Path) -> None:
    npm(archive(MODULE))
    cache.parent.mkdir(exist_ok=True)
    cache.write_text("a file where the folder should be")

    with pytest.raises(CacheError, match="REPLICATE_CACHE_DIR"):
        fetch.fetch()


def test_processes_may_fetch_at_the_same_time(npm: Callable[..., Path]) -> None:
    npm(archive(OTHER, MODULE), seconds=0.2)
    code = f"from replicate_trealla import fetch; fetch.DIGEST = {fetch.DIGEST!r}; print(fetch.fetch())"

    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    told = {process.communicate(timeout=60)[0].strip() for process in running}

    assert {process.returncode for process in running} == {0}
    assert told == {str(fetch.cached_path())}
    assert fetch.cached_path().read_bytes() == MODULE
    assert [entry.name for entry in fetch.cached_path().parent.iterdir()] == ["trealla-0.17.10.wasm"]


def test_a_module_of_ones_own_comes_first(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, other = tmp_path / "mine.wasm", tmp_path / "other.wasm"
    mine.write_bytes(OTHER)
    other.write_bytes(OTHER)
    monkeypatch.setenv("REPLICATE_TREALLA_WASM", str(other))

    assert fetch.module_path(mine) == mine
    assert fetch.module_path() == other


def test_a_path_that_is_no_file_is_told_with_where_it_came_from(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CacheError, match=r"wasm names 'nowhere\.wasm'"):
        fetch.module_path("nowhere.wasm")
    monkeypatch.setenv("REPLICATE_TREALLA_WASM", "elsewhere.wasm")
    with pytest.raises(CacheError, match=r"\$REPLICATE_TREALLA_WASM names 'elsewhere\.wasm'"):
        fetch.module_path()


def test_the_pinned_digest_is_the_npm_module_s(trealla: Path) -> None:
    if not os.environ.get("REPLICATE_TREALLA_WASM"):
        assert hashlib.sha256(trealla.read_bytes()).hexdigest() == fetch.DIGEST
