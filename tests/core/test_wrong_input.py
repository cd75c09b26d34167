"""What isn't what was asked for is refused by an error of ours, which names the value and says what to give."""

from __future__ import annotations

import asyncio
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from drivers import DRIVERS

import replicate
from replicate import AsyncPool, Pool, Snapshot, Wasi
from replicate.errors import (
    ArgumentRangeError,
    ArgumentTypeError,
    ImportTypeError,
    InvalidModuleError,
    MemoryAccessError,
    MissingExportError,
    PoolOptionError,
    SnapshotError,
    StateError,
    TableAccessError,
    UnknownEngineError,
    WasiError,
)
from replicate.limits import ResourceLimits
from replicate_kv import KeyValueAdapter

MODULE = """(module (memory (export "memory") 1) (table (export "table") 1 funcref) (global (export "g") (mut i32) (i32.const 0))
  (func (export "get") (param i32) (result i32) (i32.load (local.get 0))))"""

OPTIONS: list[tuple[str, Any]] = [
    *(("max_memory", value) for value in ("1G", -1, 1.5, True)),
    *(("max_table", value) for value in ("9", -1)),
    *(("engine", value) for value in (3, None, ["wasmtime"])),
    *(("share", value) for value in (["memory"], "memory", {"memory": 1}, {1.5: False}, {"nope": False})),
    *(("wasi", value) for value in (True, {}, Wasi)),
    *(("replicas", value) for value in ("4", 0, -1, 1.5, True)),
    *(("min_replicas", value) for value in ("1", 0, 2)),
    *(("reset", value) for value in ("never", 1)),
    *(("memory", value) for value in ("shared", None)),
    *(("snapshot", value) for value in (b"state.snap", 3)),
    *(("workers", value) for value in ("fibres", 1)),
    ("run_start", "yes"),
    ("interruptible", "no"),
    ("init", 3),
    ("name", 3),
]


def spelled(value: Any) -> str:
    return f"{value!r:.30}"


@pytest.mark.parametrize(("name", "value"), OPTIONS, ids=spelled)
def test_an_option_of_a_pool(name: str, value: Any) -> None:
    with pytest.raises(PoolOptionError) as caught:
        Pool.open(MODULE, **{"replicas": 1, name: value})

    assert name in str(caught.value)
    assert repr(value)[:20] in str(caught.value) or name == "share"


def test_an_adapters_class_in_an_adapters_place() -> None:
    with pytest.raises(PoolOptionError, match=r"source is <class .*KeyValueAdapter'>; give an object of it"):
        Pool.open(KeyValueAdapter, replicas=1)  # type: ignore[arg-type]


def test_an_option_of_an_async_pool() -> None:
    async def test() -> None:
        with pytest.raises(PoolOptionError, match="max_memory is '1G'; give bytes as an int"):
            await AsyncPool.open(MODULE, max_memory="1G")  # type: ignore[arg-type]

    asyncio.run(test())


def test_an_async_pool_that_nobody_has_awaited() -> None:
    with pytest.raises(AttributeError, match="isn't a pool yet.*await it"):
        AsyncPool.open(MODULE).read(lambda guest: None)  # type: ignore[attr-defined]


@pytest.mark.parametrize("limits", [("1", None), (1, "2"), (-1, None), (1.0, None)])
def test_limits_of_an_imported_memory(limits: Any) -> None:
    module = replicate.load_engine().compile('(module (import "host" "memory" (memory 0)))')
    with pytest.raises(ImportTypeError, match=r"host\.memory got"):
        module.instantiate({"host": {"memory": replicate.HostMemory(limits[0], maximum=limits[1])}})


@pytest.mark.parametrize("name", [3, ["wasmtime"], None])
def test_an_engines_name(name: Any) -> None:
    with pytest.raises(UnknownEngineError, match="no engine is called"):
        replicate.load_engine(name)


@pytest.mark.parametrize("kind", [Pool, AsyncPool])
def test_a_pool_that_is_made_instead_of_opened(kind: Any) -> None:
    with pytest.raises(PoolOptionError, match=rf"'kv.wasm': open it, with {kind.__name__}\.open"):
        kind("kv.wasm")


@pytest.mark.parametrize("imports", [{"x": print}, [("host", {})], "host"], ids=spelled)
def test_imports_of_another_form(imports: Any) -> None:
    for use in (lambda: Pool.open(MODULE, replicas=1, imports=imports), lambda: instance(imports)):
        with pytest.raises(ImportTypeError, match="mapping"):
            use()


def instance(imports: Any = None) -> replicate.Instance:
    return replicate.load_engine().compile(MODULE).instantiate(imports)


@pytest.mark.parametrize("field", ["memory_bytes", "table_elements"])
def test_limits_of_an_instance(field: str) -> None:
    with pytest.raises(ArgumentTypeError, match=f"{field} is '1G'"):
        ResourceLimits(**{field: "1G"})
    with pytest.raises(ArgumentRangeError, match=f"{field} is -1"):
        ResourceLimits(**{field: -1})


@pytest.mark.parametrize(
    "options",
    [
        {"preopens": "/tmp"},
        {"preopens": ["/tmp"]},
        {"preopens": 3},
        {"preopens": {"/data": 3}},
        {"preopens": {3: "/tmp"}},
        {"args": 3},
        {"args": [3]},
        {"env": ["a=b"]},
        {"env": {1: "a"}},
        {"env": {"a": 1}},
        {"stdin": "text"},
        {"seed": "x"},
        {"max_sleep": "1"},
        {"max_sleep": math.nan},
        {"capture_limit": 1.5},
    ],
    ids=spelled,
)
def test_a_configuration_of_wasi(options: Any) -> None:
    with pytest.raises(WasiError, match="give"):
        Wasi(**options)


@pytest.fixture(scope="module", params=sorted(DRIVERS))
def pool(request: pytest.FixtureRequest) -> Iterator[Any]:
    driver = DRIVERS[request.param](MODULE, replicas=1)
    yield driver
    driver.close()


GUEST: dict[str, tuple[Callable[[Any], Any], type[Exception]]] = {
    "call a number": (lambda guest: guest.call(1), ArgumentTypeError),
    "call a list": (lambda guest: guest.call(["get"]), ArgumentTypeError),
    "call_bits a number": (lambda guest: guest.call_bits(1), ArgumentTypeError),
    "read at a string": (lambda guest: guest.memory.read("a", 1), ArgumentTypeError),
    "read a string": (lambda guest: guest.memory.read(1, "a"), ArgumentTypeError),
    "read at a float": (lambda guest: guest.memory.read(1.5, 1), ArgumentTypeError),
    "write a string": (lambda guest: guest.memory.write(0, "x"), ArgumentTypeError),
    "write a number": (lambda guest: guest.memory.write(0, 5), ArgumentTypeError),
    "write at a string": (lambda guest: guest.memory.write("a", b"x"), ArgumentTypeError),
    "pack what isn't of the format": (lambda guest: guest.memory.pack("<i", 0, "x"), ArgumentTypeError),
    "pack no format": (lambda guest: guest.memory.pack("!!", 0, 1), ArgumentTypeError),
    "unpack no format": (lambda guest: guest.memory.unpack(3, 0), ArgumentTypeError),
    "read_cstring at a string": (lambda guest: guest.memory.read_cstring("a"), ArgumentTypeError),
    "grow memory by a string": (lambda guest: guest.memory.grow("1"), ArgumentTypeError),
    "grow memory beyond numbers": (lambda guest: guest.memory.grow(1 << 70), MemoryAccessError),
    "grow a table by a string": (lambda guest: guest.tables["table"].grow("1"), ArgumentTypeError),
    "grow a table beyond numbers": (lambda guest: guest.tables["table"].grow(1 << 70), TableAccessError),
    "an element at a string": (lambda guest: guest.tables["table"]["a"], ArgumentTypeError),
    "a memory at a float": (lambda guest: guest.memories[1.5], MissingExportError),
    "a global's value": (lambda guest: setattr(guest.globals["g"], "value", "x"), ArgumentTypeError),
    "a value of the state": (lambda guest: guest.state.__setitem__("a", object()), StateError),
    "a key of the state": (lambda guest: guest.state.__setitem__(1, "a"), StateError),
    "a list as a key of the state": (lambda guest: guest.state.__setitem__([], "a"), StateError),
    "a value inside one of the state": (lambda guest: guest.state.__setitem__("a", [object()]), StateError),
}


@pytest.mark.parametrize("use", sorted(GUEST))
def test_a_use_of_the_guest(pool: Any, use: str) -> None:
    act, error = GUEST[use]
    version = pool.version

    with pytest.raises(error):
        pool.write(act)

    assert (version, 65536) == (pool.version, pool.read(lambda guest: guest.memory.size))


def test_a_value_of_the_state_is_refused_where_it_is_set(pool: Any) -> None:
    def put(guest: Any) -> None:
        with pytest.raises(StateError, match=r"state\['a'\]"):
            guest.state["a"] = object()
        guest.state["b"] = 1

    pool.write(put)

    assert {"b": 1} == pool.read(lambda guest: dict(guest.state))


@pytest.mark.parametrize("timeout", ["1", math.nan, True, [1]], ids=spelled)
@pytest.mark.parametrize("what", ["read", "write", "snapshot", "branch", "reading", "writing"])
def test_a_timeout(what: str, timeout: Any) -> None:
    arguments = [lambda guest: None] if what in ("read", "write") else []
    with Pool.open(MODULE, replicas=1) as pool:
        with pytest.raises((ArgumentTypeError, ArgumentRangeError), match="timeout is"):
            opened = getattr(pool, what)(*arguments, timeout=timeout)
            with opened:
                pass
        assert 0 == pool.version


@pytest.mark.parametrize("replicas", ["4", None, 0, 1.5])
def test_a_number_of_replicas(replicas: Any) -> None:
    with Pool.open(MODULE, replicas=1) as pool, pytest.raises(PoolOptionError, match="replicas is"):
        pool.resize(replicas)


def test_what_is_restored() -> None:
    with instance() as one:
        for wrong in ("state.snap", None, b""):
            with pytest.raises(SnapshotError, match=r"Snapshot\.load"):
                one.restore(wrong)  # type: ignore[arg-type]


def test_where_a_snapshot_is_saved(tmp_path: Path) -> None:
    with instance() as one:
        taken = one.snapshot()
    for path, reason in (
        (tmp_path / "no/state.snap", "there's no folder"),
        (tmp_path, "it's a folder"),
        (None, "give the path"),
        ("a\0b", "null"),
    ):
        with pytest.raises(SnapshotError, match=reason):
            taken.save(path)  # type: ignore[arg-type]
    assert [] == list(tmp_path.iterdir())


def test_where_a_snapshot_is_loaded_from(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.snap", None, "a\0b"):
        with pytest.raises(SnapshotError, match="can't read the snapshot"):
            Snapshot.load(path)  # type: ignore[arg-type]


def test_what_a_snapshot_is_made_of_and_used_with() -> None:
    with instance() as one:
        taken = one.snapshot()
    with pytest.raises(SnapshotError, match="bytes"):
        Snapshot.from_bytes("text")  # type: ignore[arg-type]
    with pytest.raises(SnapshotError, match="another one"):
        taken.diff("state.snap")  # type: ignore[arg-type]
    with pytest.raises(InvalidModuleError, match="read the file"):
        taken.to_wasm("kv.wasm")  # type: ignore[arg-type]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_a_saved_snapshot_has_the_mode_that_the_umask_leaves(tmp_path: Path) -> None:
    with instance() as one:
        taken = one.snapshot()
    path = tmp_path / "state.snap"
    old = os.umask(0o027)
    try:
        taken.save(path)
    finally:
        os.umask(old)
    assert 0o640 == path.stat().st_mode & 0o777

    path.chmod(0o604)
    taken.save(path)
    assert 0o604 == path.stat().st_mode & 0o777, "that of the file that was there"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_a_snapshot_goes_where_a_link_leads_and_into_a_pipe(tmp_path: Path) -> None:
    with instance() as one:
        taken = one.snapshot()
    (tmp_path / "link").symlink_to(tmp_path / "state.snap")
    taken.save(tmp_path / "link")
    assert (True, taken) == ((tmp_path / "link").is_symlink(), Snapshot.load(tmp_path / "state.snap"))

    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        taken.save(tmp_path / "pipe")
        assert taken.to_bytes() == os.read(reader, 1 << 20)
    finally:
        os.close(reader)
    assert {"link", "pipe", "state.snap"} == {path.name for path in tmp_path.iterdir()}


def test_a_snapshot_that_cannot_be_written_whole_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device", "/somewhere/.secret")

    with instance() as one:
        taken = one.snapshot()
    path = tmp_path / "state.snap"
    path.write_bytes(b"before")
    monkeypatch.setattr(os, "replace", full)

    with pytest.raises(SnapshotError, match=r"state\.snap': No space left") as caught:
        taken.save(path)

    assert ".secret" not in str(caught.value)
    assert (["state.snap"], b"before") == ([each.name for each in tmp_path.iterdir()], path.read_bytes())
