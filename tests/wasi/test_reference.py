"""The functions' types, and the bytes they leave in memory, are those of wasmtime's own WASI.

Except for a file's device and inode, which wasmtime makes up, and its change time, for which it gives the creation time.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from replicate.wasi import Errno, Wasi

from .shim import ShimGuest
from .support import ALL_RIGHTS, CREAT, FakeGuest, FakeMemory, dirents, signed

APIS = ["wasi_snapshot_preview1", "wasi_unstable"]
NAMES = [
    "args_get",
    "args_sizes_get",
    "environ_get",
    "environ_sizes_get",
    "clock_res_get",
    "clock_time_get",
    "fd_advise",
    "fd_allocate",
    "fd_close",
    "fd_datasync",
    "fd_fdstat_get",
    "fd_fdstat_set_flags",
    "fd_fdstat_set_rights",
    "fd_filestat_get",
    "fd_filestat_set_size",
    "fd_filestat_set_times",
    "fd_pread",
    "fd_prestat_get",
    "fd_prestat_dir_name",
    "fd_pwrite",
    "fd_read",
    "fd_readdir",
    "fd_renumber",
    "fd_seek",
    "fd_sync",
    "fd_tell",
    "fd_write",
    "path_create_directory",
    "path_filestat_get",
    "path_filestat_set_times",
    "path_link",
    "path_open",
    "path_readlink",
    "path_remove_directory",
    "path_rename",
    "path_symlink",
    "path_unlink_file",
    "poll_oneoff",
    "proc_exit",
    "proc_raise",
    "sched_yield",
    "random_get",
    "sock_accept",
    "sock_recv",
    "sock_send",
    "sock_shutdown",
]


def wrappers(api: str) -> str:
    """Write a module that exports each WASI function under its own name, and a memory."""
    imports, functions = [], []
    for name, function in Wasi().imports()[api].items():
        assert function.params is not None
        assert function.results is not None
        params = f"(param {' '.join(function.params)})" if function.params else ""
        results = f"(result {' '.join(function.results)})" if function.results else ""
        given = " ".join(f"(local.get {index})" for index in range(len(function.params)))
        imports.append(f'(import "{api}" "{name}" (func ${name} {params} {results}))')
        functions.append(f'(func (export "{name}") {params} {results} (call ${name} {given}))')
    return f'(module {" ".join(imports)} (memory (export "memory") 16) {" ".join(functions)})'


class ReferenceMemory(FakeMemory):
    """Be a view on a wasmtime instance's memory."""

    def __init__(self, guest: Any) -> None:
        self.guest = guest
        self.accesses = 0

    @property
    def bytes(self) -> Any:  # type: ignore[override]
        memory = self.guest.instance.exports(self.guest.store)["memory"]
        return memoryview(memory.get_buffer_ptr(self.guest.store)).cast("B")  # a fresh view for each use


class ReferenceGuest(FakeGuest):
    """Call wasmtime's own WASI as a `FakeGuest` calls ours."""

    def __init__(self, folder: Path) -> None:
        super().__init__(Wasi())
        config = wasmtime.WasiConfig()
        config.argv = ["tool", "argument"]
        config.env = [("NAME", "value")]
        config.preopen_dir(str(folder), "/")
        engine = wasmtime.Engine()
        self.store = wasmtime.Store(engine)
        self.store.set_wasi(config)
        linker = wasmtime.Linker(engine)
        linker.define_wasi()
        self.instance = linker.instantiate(self.store, wasmtime.Module(engine, wrappers(APIS[0])))
        self.memory = ReferenceMemory(self)

    def call(self, name: str, *args: int) -> int:
        function = self.instance.exports(self.store)[name]
        assert isinstance(function, wasmtime.Func)
        params = self.functions[name].params
        assert params is not None
        return int(function(self.store, *(signed(value, kind) for value, kind in zip(args, params, strict=True))))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "file").write_bytes(b"0123456789")
    (tmp_path / "sub" / "longer name").write_bytes(b"x")
    os.symlink("file", tmp_path / "link")
    for path in (tmp_path / "file", tmp_path / "sub"):
        os.utime(path, ns=(1_000_000_001, 2_000_000_002))
    return tmp_path


@pytest.fixture(params=APIS)
def api(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def guests(folder: Path) -> tuple[FakeGuest, FakeGuest]:
    wasi = Wasi(args=["tool", "argument"], env={"NAME": "value"}, preopens={"/": folder})
    return FakeGuest(wasi), ReferenceGuest(folder)


def test_nothing_is_missing() -> None:
    imports = Wasi().imports()
    assert sorted(imports["wasi_snapshot_preview1"]) == sorted(NAMES)
    assert sorted([*imports["wasi_unstable"], "sock_accept"]) == sorted(NAMES)


def test_types_fit_the_engines_own() -> None:
    engine = wasmtime.Engine()
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    store = wasmtime.Store(engine)
    store.set_wasi(wasmtime.WasiConfig())
    linker.instantiate(store, wasmtime.Module(engine, wrappers(APIS[0])))


def test_a_real_guest_links_and_calls(api: str, folder: Path) -> None:
    guest = ShimGuest(wrappers(api), Wasi(preopens={"/": folder}))
    guest.write(0, b"file")
    assert guest.call("path_open", 3, 1, 0, 4, 0, ALL_RIGHTS, 0, 0, 64) == 0
    assert guest.unpack("<I", 64) == (4,)
    assert guest.call("fd_close", 4) == 0


def both(guests: tuple[FakeGuest, FakeGuest], name: str, *args: int, size: int, where: int = 50_000) -> tuple[Any, Any]:
    """Make one call on both, and give errno and what lies in memory afterwards."""
    found = []
    for guest in guests:
        guest.memory.bytes[where : where + size] = b"\xaa" * size
        found.append((guest.call(name, *args), bytes(guest.memory.bytes[where : where + size])))
    return found[0], found[1]


@pytest.mark.parametrize("what", ["args", "environ"])
def test_strings_lie_the_same(guests: tuple[FakeGuest, FakeGuest], what: str) -> None:
    ours, theirs = both(guests, f"{what}_sizes_get", 50_000, 50_004, size=12)
    assert ours == theirs
    ours, theirs = both(guests, f"{what}_get", 50_000, 50_016, size=40)
    assert ours == theirs


def test_a_preopened_folder_is_described_the_same(guests: tuple[FakeGuest, FakeGuest]) -> None:
    ours, theirs = both(guests, "fd_prestat_get", 3, 50_000, size=8)
    assert (ours[0], struct.unpack("<B3xI", ours[1])) == (theirs[0], struct.unpack("<B3xI", theirs[1]))
    ours, theirs = both(guests, "fd_prestat_dir_name", 3, 50_000, 1, size=4)
    assert ours == theirs


@pytest.mark.parametrize("path", ["file", "sub", "link"])
@pytest.mark.parametrize("follow", [0, 1])
def test_a_file_is_described_the_same(guests: tuple[FakeGuest, FakeGuest], path: str, follow: int) -> None:
    layout = "<QQB7xQQQQQ"
    for guest in guests:
        guest._put(0, path)
    ours, theirs = both(guests, "path_filestat_get", 3, follow, 0, len(path), 50_000, size=struct.calcsize(layout))
    assert ours[0] == theirs[0] == 0
    assert struct.unpack(layout, ours[1])[2:7] == struct.unpack(layout, theirs[1])[2:7]


def test_an_open_file_is_described_the_same(guests: tuple[FakeGuest, FakeGuest]) -> None:
    layout = "<QQB7xQQQQQ"
    fds = {guest.opened("file") for guest in guests}
    assert len(fds) == 1
    [fd] = fds
    ours, theirs = both(guests, "fd_filestat_get", fd, 50_000, size=struct.calcsize(layout))
    assert (ours[0], struct.unpack(layout, ours[1])[2:7]) == (theirs[0], struct.unpack(layout, theirs[1])[2:7])
    ours, theirs = both(guests, "fd_fdstat_get", fd, 50_000, size=24)
    assert ours[1][:1] == theirs[1][:1]
    assert ours[1][2:4] == theirs[1][2:4]


@pytest.mark.parametrize("whence", [0, 1, 2])
def test_seeking_goes_to_the_same_place(guests: tuple[FakeGuest, FakeGuest], whence: int) -> None:
    for guest in guests:
        fd = guest.opened("file")
        guest.read(fd, 4)
    ours, theirs = both(guests, "fd_seek", fd, 2, whence, 50_000, size=8)
    assert ours == theirs


def test_entries_of_a_folder_lie_the_same(guests: tuple[FakeGuest, FakeGuest]) -> None:
    ours, theirs = (guest.readdir(3, 4096, 0) for guest in guests)
    assert ours[0] == theirs[0] == 0
    mine, reference = ({name: kind for _, _, name, kind in dirents(found[1])} for found in (ours, theirs))
    assert mine == reference
    assert len(ours[1]) == len(theirs[1])


def test_events_lie_the_same(guests: tuple[FakeGuest, FakeGuest]) -> None:
    timer = struct.pack("<QB7xI4xQQH6x", 77, 0, 1, 1000, 0, 0)
    writing = struct.pack("<QB7xI28x", 78, 2, 1)
    for data in (timer, writing):
        for guest in guests:
            guest._put(0, data)
        ours, theirs = both(guests, "poll_oneoff", 0, 50_000, 1, 50_040, size=44)
        fields = [struct.unpack_from("<QHB", found[1]) for found in (ours, theirs)]
        assert (ours[0], fields[0]) == (theirs[0], fields[1])
        assert ours[1][40:] == theirs[1][40:]


@pytest.mark.parametrize(
    ("path", "oflags", "rights"),
    [
        ("nothing", 0, ALL_RIGHTS),
        ("file/more", 0, ALL_RIGHTS),
        ("sub", 0, ALL_RIGHTS),
        ("sub", 2, ALL_RIGHTS),
        ("file", 2, 2),
        ("file", CREAT | 4, ALL_RIGHTS),
        ("link", CREAT | 4, ALL_RIGHTS),
        ("..", 0, 2),
        ("/file", 0, 2),
        ("sub/../../x", 0, 2),
        ("sub/", CREAT, ALL_RIGHTS),
        ("file", CREAT | 2, 2),
        ("", 0, 2),
        ("sub/longer name", 0, ALL_RIGHTS),
    ],
)
def test_opening_ends_the_same(guests: tuple[FakeGuest, FakeGuest], path: str, oflags: int, rights: int) -> None:
    ours, theirs = (Errno(guest.open(path, oflags=oflags, rights=rights)[0]) for guest in guests)
    assert ours == theirs
