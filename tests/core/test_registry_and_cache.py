"""Finding engines and adapters, and keeping files: what is missing or damaged is said, or made again."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import replicate
from replicate import registry
from replicate.cache import ArtifactCache, cache_folder
from replicate.errors import AdapterError, EngineUnavailableError, UnknownAdapterError, UnknownEngineError
from replicate_wasmtime import WasmtimeEngine


def test_an_engine_that_nobody_registered_and_one_that_cannot_be_imported_differ(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UnknownEngineError, match=r"'wasmer9'.*wasmtime"):
        replicate.load_engine("wasmer9")
    points = [
        metadata.EntryPoint("absent", "no_such_runtime_here:Engine", "replicate.engines"),
        metadata.EntryPoint("torn", "no_such_adapter_here:Adapter", "replicate.adapters"),
        metadata.EntryPoint("wrong", "replicate:nothing_like_it", "replicate.adapters"),
    ]
    right = metadata.entry_points
    monkeypatch.setattr(
        registry.metadata, "entry_points", lambda group: [*right(group=group), *(p for p in points if p.group == group)]
    )
    assert "absent" in replicate.engine_names()
    with pytest.raises(EngineUnavailableError, match="pip install absent"):
        replicate.load_engine("absent")
    with pytest.raises(ImportError):
        replicate.load_engine("absent")
    for name in ("torn", "wrong"):
        with pytest.raises(AdapterError, match=name):
            replicate.load_adapter(name)


def test_adapters_are_found_by_name() -> None:
    assert {"kv", "trealla"} <= set(replicate.adapter_names())
    assert replicate.load_adapter("kv").name == "kv"
    with pytest.raises(UnknownAdapterError, match="kv"):
        replicate.load_adapter("nope")


def test_an_engine_is_one_object_for_the_process() -> None:
    assert replicate.load_engine("wasmtime") is replicate.load_engine()


def test_the_cache_folder_is_where_it_is_told_to_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REPLICATE_CACHE_DIR", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("REPLICATE_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    if os.name == "posix" and os.uname().sysname == "Linux":
        assert cache_folder() == tmp_path / "xdg" / "wasm-replicate"
        monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
        assert cache_folder() == Path.home() / ".cache" / "wasm-replicate"


def test_what_is_kept_is_found_whole_or_not_at_all(tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path / "sub")
    assert cache.find("key") is None
    path = cache.keep("key", b"content")
    assert path is not None
    assert cache.find("key") == path
    assert path.read_bytes() == b"content"
    path.write_bytes(b"c0ntent")
    assert cache.find("key") is None, "damage is noticed"
    assert not path.exists()
    assert [entry.name for entry in (tmp_path / "sub").iterdir()] == []


def test_a_cache_stays_below_its_limit(tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path, limit=100)
    for number in range(8):
        path = cache.keep(f"key{number}", bytes([number]) * 40)
        assert path is not None
        os.utime(path, (number, number))
    assert cache.find("key7") is not None
    assert cache.find("key0") is None
    assert sum(entry.stat().st_size for entry in tmp_path.iterdir()) <= 120


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = ArtifactCache(tmp_path / "file" / "below")
    assert cache.keep("key", b"content") is None
    assert cache.find("key") is None


BIG = (
    "(module (memory 1) "
    + " ".join(
        f'(func (export "f{number}") (result i32) (i32.add (i32.const {number}) (i32.load (i32.const 0))))'
        for number in range(400)
    )
    + ")"
)


def test_compiled_code_is_kept_and_damage_to_it_does_no_harm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REPLICATE_CACHE_DIR", str(tmp_path))

    def use() -> Any:
        with WasmtimeEngine().compile(BIG).instantiate() as instance:
            return instance.call("f7")

    assert use() == 7
    kept = [path for path in (tmp_path / "compiled").iterdir() if path.name.startswith("wasmtime-")]
    assert len(kept) == 1
    written = kept[0].stat().st_mtime_ns
    os.utime(kept[0], ns=(written - 10**9, written - 10**9))
    assert use() == 7
    assert len(list((tmp_path / "compiled").glob("wasmtime-*"))) == 1
    kept[0].write_bytes(b"\x7fELF but not really" + kept[0].read_bytes()[100:])
    assert use() == 7
    assert [path.read_bytes()[:4] for path in (tmp_path / "compiled").glob("wasmtime-*")] == [b"\x7fELF"]
    with WasmtimeEngine(cache=False).compile(BIG).instantiate() as instance:
        assert instance.call("f8") == 8
