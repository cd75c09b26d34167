"""Drive descriptors and paths against a model: the same calls on a second folder, made by the operating system itself.

Every step compares what the guest is told with what the system says. `save` and `restore` roll the guest back, `move`
goes on in a fresh instance that has nothing but the state: neither may be noticed, except that a file which isn't where
it was opened may answer ESTALE, and then `check_replicable` must have said so.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from replicate.plaindata import copy_plain, decode_plain, encode_plain
from replicate.wasi import Errno, FixedClock, Wasi

from .model import Model, Open, escapes
from .support import ALL_RIGHTS, APPEND, CREAT, DIRECTORY, EXCL, READ, TRUNC, WRITE, FakeGuest

RESIZE = 1 << 8 | 1 << 22
OTHER_RIGHTS = ALL_RIGHTS & ~(READ | WRITE | RESIZE)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows can't preopen folders")

component = st.sampled_from([b"a", b"b", b"c", b"d", b".", b".."])
path = st.one_of(
    st.sampled_from([b"a", b"b", b"c", b"d", b"a/b", b"a/c", b"c/b"]),
    st.builds(
        lambda parts, slash: b"/".join(parts) + slash,
        st.lists(component, min_size=1, max_size=4),
        st.sampled_from([b"", b"", b"", b"/"]),
    ),
)
data = st.binary(max_size=12)
small = st.integers(0, 20)
pick = st.integers(0, 7)


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.tmp = Path(tempfile.mkdtemp())
        self.ours, self.shadow = self.tmp / "ours", self.tmp / "shadow"
        self.ours.mkdir()
        self.wasi = Wasi(preopens={"/": self.ours}, seed=5, clock=FixedClock(1000, step_ns=3))
        self.saved: list[tuple[dict[str, Any], Model]] = []
        self.drawn: list[bytes] = []
        self.opened: list[int] = []

    @initialize(linked=st.booleans())
    def start(self, linked: bool) -> None:
        for root in (self.ours, self.shadow):
            (root / "a").mkdir(parents=True, exist_ok=True)
            (root / "a" / "b").write_bytes(b"inside")
            (root / "b").write_bytes(b"hello world")
            if linked:
                (root / "c").symlink_to("a")
                (root / "d").symlink_to("c/../../x")
        self.guest = FakeGuest(self.wasi)
        self.model = Model({3: Open(self._keep(os.open(self.shadow, os.O_RDONLY)), folder=True)})

        self.open(0, b"b", 0, READ | WRITE, False, True)
        self.open(0, b"a/b", 0, WRITE, True, True)
        self.open(0, b"a", DIRECTORY, READ, False, True)

    def _keep(self, fd: int) -> int:
        self.opened.append(fd)
        return fd

    def teardown(self) -> None:
        for fd in self.opened:
            os.close(fd)
        shutil.rmtree(self.tmp)

    # -- comparing -----------------------------------------------------------------------------------------------------

    def _folder(self, index: int) -> tuple[int, int]:
        """Choose an open folder: its number, and the model's host descriptor."""
        folders = [number for number, entry in sorted(self.model.table.items()) if entry.folder]
        number = folders[index % len(folders)]
        return number, self.model.table[number].fd

    def _file(self, index: int) -> tuple[int, Open] | None:
        files = [number for number, entry in sorted(self.model.table.items()) if not entry.folder]
        if not files:
            return None
        number = files[index % len(files)]
        return number, self.model.table[number]

    def _stale(self, got: int, *numbers: int) -> bool:
        """Accept ESTALE where the state says that a descriptor's file isn't to be found any more."""
        if got != Errno.STALE:
            return False
        places = {finding.place for finding in self.wasi.check_replicable(self.guest.state)}
        assert any(f"WASI descriptor {number}" in places for number in numbers)
        return True

    def _agree(self, got: int, action: Any, *numbers: int) -> tuple[bool, Any]:
        """Do `action` on the model unless the guest's file is stale, and compare the errors. Tells if both worked."""
        if self._stale(got, *numbers):
            return False, None
        result, expected = None, "SUCCESS"
        try:
            result = action()
        except OSError as error:
            expected = errno.errorcode[error.errno or 0].removeprefix("E")
        assert Errno(got).name == expected
        return got == 0, result

    def _on_path(self, got: int, number: int, base: int, path: bytes, follow: bool, action: Any) -> tuple[bool, Any]:
        if escapes(base, path, follow):
            assert got in (Errno.PERM, Errno.STALE)
            return False, None
        return self._agree(got, action, number)

    # -- opening and closing -------------------------------------------------------------------------------------------

    @rule(
        at=pick,
        path=path,
        oflags=st.sampled_from([0, 0, CREAT, CREAT, CREAT | EXCL, TRUNC, CREAT | TRUNC, DIRECTORY]),
        mode=st.sampled_from([READ, WRITE, READ | WRITE]),
        append=st.booleans(),
        follow=st.booleans(),
    )
    def open(self, at: int, path: bytes, oflags: int, mode: int, append: bool, follow: bool) -> None:
        if oflags & TRUNC:
            mode |= WRITE
        if oflags & DIRECTORY:
            mode = READ
        if path.endswith((b"/", b".")):
            oflags &= ~CREAT  # Linux and macOS disagree among themselves
        number, base = self._folder(at)
        rights = OTHER_RIGHTS | mode | (RESIZE if mode & WRITE else 0)
        got, fd = self.guest.open(path, fd=number, oflags=oflags, rights=rights, fdflags=append * APPEND, follow=follow)
        flags = {READ: os.O_RDONLY, WRITE: os.O_WRONLY, READ | WRITE: os.O_RDWR}[mode]
        flags |= os.O_CREAT * bool(oflags & CREAT) | os.O_EXCL * bool(oflags & EXCL)
        flags |= os.O_TRUNC * bool(oflags & TRUNC) | os.O_DIRECTORY * bool(oflags & DIRECTORY)
        exclusive = oflags & CREAT and oflags & EXCL
        flags |= os.O_NOFOLLOW * (not follow and not path.endswith(b"/"))
        worked, opened = self._on_path(
            got, number, base, path, follow and not exclusive, lambda: os.open(path, flags, 0o666, dir_fd=base)
        )
        if worked:
            self._keep(opened)
            for file in self.guest.local["wasi"].values():
                self._keep(os.dup(file.fd))  # a file's number isn't given to another file while the file is open
            folder = stat.S_ISDIR(os.fstat(opened).st_mode)
            assert fd == min(set(range(3, 100)) - set(self.model.table))
            self.model.table[fd] = Open(
                opened, append=append, readable=bool(mode & READ), writable=bool(mode & WRITE), folder=folder
            )

    @rule(at=pick)
    def close(self, at: int) -> None:
        number = sorted(self.model.table)[at % len(self.model.table)]
        if number != 3:
            assert self.guest.close(number) == 0
            del self.model.table[number]
            assert self.guest.close(number) == Errno.BADF

    @rule(one=pick, other=pick)
    def renumber(self, one: int, other: int) -> None:
        numbers = sorted(set(self.model.table) - {3})
        if numbers:
            source, target = numbers[one % len(numbers)], numbers[other % len(numbers)]
            assert self.guest.call("fd_renumber", source, target) == 0
            if source != target:
                self.model.table[target] = self.model.table.pop(source)

    # -- files ---------------------------------------------------------------------------------------------------------

    @rule(at=pick, first=small, second=small)
    def read(self, at: int, first: int, second: int) -> None:
        if chosen := self._file(at):
            number, entry = chosen
            got, found = self.guest.read(number, first, second)
            if not entry.readable:
                assert got == Errno.NOTCAPABLE
            elif not self._stale(got, number):
                assert (got, found) == (0, os.pread(entry.fd, first + second, entry.offset))
                entry.offset += len(found)

    @rule(at=pick, first=data, second=data)
    def write(self, at: int, first: bytes, second: bytes) -> None:
        if chosen := self._file(at):
            number, entry = chosen
            got, written = self.guest.write(number, first, second)
            if not entry.writable:
                assert got == Errno.NOTCAPABLE
            elif not self._stale(got, number):
                assert (got, written) == (0, len(first + second))
                start = os.fstat(entry.fd).st_size if entry.append else entry.offset
                os.pwrite(entry.fd, first + second, start)
                if written:
                    entry.offset = start + written

    @rule(at=pick, length=small, offset=small)
    def pread(self, at: int, length: int, offset: int) -> None:
        if chosen := self._file(at):
            number, entry = chosen
            got, found = self.guest.pread(number, length, offset)
            if not entry.readable:
                assert got == Errno.NOTCAPABLE
            elif not self._stale(got, number):
                assert (got, found) == (0, os.pread(entry.fd, length, offset))

    @rule(at=pick, content=data, offset=small)
    def pwrite(self, at: int, content: bytes, offset: int) -> None:
        chosen = self._file(at)
        if chosen and not chosen[1].append:
            number, entry = chosen
            got, _ = self.guest.pwrite(number, content, offset)
            if not entry.writable:
                assert got == Errno.NOTCAPABLE
            elif not self._stale(got, number):
                assert (got, os.pwrite(entry.fd, content, offset)) == (0, len(content))

    @rule(at=pick, offset=st.integers(-5, 20), whence=st.sampled_from([0, 1, 2]))
    def seek(self, at: int, offset: int, whence: int) -> None:
        if chosen := self._file(at):
            number, entry = chosen
            got, position = self.guest.seek(number, offset, whence)
            if self._stale(got, number):
                return
            expected = offset + (0, entry.offset, os.fstat(entry.fd).st_size)[whence]
            if expected < 0:
                assert got == Errno.INVAL
            else:
                assert (got, position) == (0, expected)
                entry.offset = expected

    @rule(at=pick, size=small)
    def resize(self, at: int, size: int) -> None:
        chosen = self._file(at)
        if chosen and chosen[1].writable:
            number, entry = chosen
            got = self.guest.call("fd_filestat_set_size", number, size)
            self._agree(got, lambda: os.ftruncate(entry.fd, size), number)

    @rule(at=pick, append=st.booleans())
    def set_append(self, at: int, append: bool) -> None:
        if chosen := self._file(at):
            number, entry = chosen
            assert self.guest.call("fd_fdstat_set_flags", number, append * APPEND) == 0
            entry.append = append

    @rule(at=pick)
    def fstat(self, at: int) -> None:
        number = sorted(self.model.table)[at % len(self.model.table)]
        got, found = self.guest.fstat(number)
        if not self._stale(got, number):
            self._same(got, found, os.fstat(self.model.table[number].fd))

    def _same(self, got: int, found: tuple[int, ...], expected: os.stat_result) -> None:
        assert got == 0
        _, _, filetype, links, size, *_ = found
        kinds = {stat.S_IFREG: 4, stat.S_IFDIR: 3, stat.S_IFLNK: 7}
        assert filetype == kinds[stat.S_IFMT(expected.st_mode)]
        assert links == expected.st_nlink
        if filetype == 4:
            assert size == expected.st_size

    # -- paths ---------------------------------------------------------------------------------------------------------

    @rule(at=pick, path=path, follow=st.booleans())
    def stat(self, at: int, path: bytes, follow: bool) -> None:
        number, base = self._folder(at)
        got, found = self.guest.stat(path, fd=number, follow=follow)
        worked, expected = self._on_path(
            got, number, base, path, follow, lambda: os.stat(path, dir_fd=base, follow_symlinks=follow)
        )
        if worked:
            self._same(got, found, expected)

    @rule(at=pick, path=path)
    def mkdir(self, at: int, path: bytes) -> None:
        if path.endswith(b"."):
            return
        number, base = self._folder(at)
        got = self.guest.on_path("path_create_directory", path, fd=number)
        if not escapes(base, path.rstrip(b"/"), False):
            self._agree(got, lambda: os.mkdir(path, dir_fd=base), number)

    @rule(at=pick, path=path)
    def rmdir(self, at: int, path: bytes) -> None:
        if path.rstrip(b"/").endswith(b"."):
            return
        number, base = self._folder(at)
        got = self.guest.on_path("path_remove_directory", path, fd=number)
        if not escapes(base, path.rstrip(b"/"), False):
            self._agree(got, lambda: os.rmdir(path, dir_fd=base), number)

    @rule(at=pick, path=path)
    def unlink(self, at: int, path: bytes) -> None:
        if path.endswith((b".", b"/")):
            return
        number, base = self._folder(at)
        got = self.guest.on_path("path_unlink_file", path, fd=number)
        self._on_path(got, number, base, path, False, lambda: os.unlink(path, dir_fd=base))

    @rule(at=pick, other=pick, old=path, new=path)
    def rename(self, at: int, other: int, old: bytes, new: bytes) -> None:
        if old.endswith((b".", b"/")) or new.endswith((b".", b"/")):
            return
        (number, base), (new_number, new_base) = self._folder(at), self._folder(other)
        got = self.guest.rename(old, new, fd=number, new_fd=new_number)
        if escapes(base, old, False) or escapes(new_base, new, False):
            assert got != 0
        else:
            self._agree(got, lambda: os.rename(old, new, src_dir_fd=base, dst_dir_fd=new_base), number, new_number)

    @rule(old=path, new=path)
    def link(self, old: bytes, new: bytes) -> None:
        if old.endswith((b".", b"/")) or new.endswith((b".", b"/")):
            return
        base = self.model.table[3].fd
        got = self.guest.link(old, new)
        if escapes(base, old, False) or escapes(base, new, False):
            assert got != 0
        else:
            self._agree(got, lambda: os.link(old, new, src_dir_fd=base, dst_dir_fd=base, follow_symlinks=False), 3)

    @rule(content=path, new=path)
    def symlink(self, content: bytes, new: bytes) -> None:
        if new.endswith((b".", b"/")):
            return
        base = self.model.table[3].fd
        self._on_path(
            self.guest.symlink(content, new), 3, base, new, False, lambda: os.symlink(content, new, dir_fd=base)
        )

    @rule(path=path, size=st.sampled_from([0, 3, 100]))
    def readlink(self, path: bytes, size: int) -> None:
        if path.endswith(b"/"):
            return
        base = self.model.table[3].fd
        got, found = self.guest.readlink(path, size)
        worked, expected = self._on_path(got, 3, base, path, False, lambda: os.readlink(path, dir_fd=base))
        if worked:
            assert found == expected[:size]

    @rule(at=pick, size=st.sampled_from([26, 60, 4096]))
    def listing(self, at: int, size: int) -> None:
        number, base = self._folder(at)
        got, _ = self.guest.readdir(number, size, 0)
        if not self._stale(got, number):
            assert self.guest.names(number, size) == sorted(map(os.fsencode, os.listdir(base)))

    # -- the rest of the state -----------------------------------------------------------------------------------------

    @rule(length=small)
    def draw(self, length: int) -> None:
        while len(self.drawn) <= self.model.draws:
            fresh = FakeGuest(self.wasi)
            self.drawn = [fresh.random(40) for _ in range(len(self.drawn) + 1)]
        if length:
            assert self.guest.random(length) == self.drawn[self.model.draws][:length]
            self.model.draws += 1

    @rule()
    def time(self) -> None:
        assert self.guest.time(0) == 1000 + self.model.clock
        self.model.clock += 3

    @rule(text=data)
    def output(self, text: bytes) -> None:
        assert self.guest.write(1, text) == (0, len(text))
        self.model.stdout += text

    # -- transactions --------------------------------------------------------------------------------------------------

    @rule()
    def save(self) -> None:
        self.saved.append((self.guest.save(), self.model.copy()))

    @precondition(lambda self: self.saved)
    @rule(at=pick)
    def restore(self, at: int) -> None:
        state, model = self.saved[at % len(self.saved)]
        self.guest.restore(state)
        self.model = model.copy()

    @rule()
    def move(self) -> None:
        """Go on in a replica; only one that `check_replicable` lets pass has to be equal."""
        findings = self.wasi.check_replicable(self.guest.state)
        lost = {
            f"WASI descriptor {number}"
            for number, entry in self.model.table.items()
            if os.fstat(entry.fd).st_nlink == 0
        }
        assert lost <= {finding.place for finding in findings}
        if not findings:
            self.guest = self.guest.replica()

    @invariant()
    def what_the_guest_sees_is_the_model(self) -> None:
        if not hasattr(self, "guest"):
            return
        assert self.wasi.stdout(self.guest) == self.model.stdout
        for number, entry in self.model.table.items():
            if not entry.folder:
                assert self.guest.tell(number) == (0, entry.offset)
                assert self.guest.fdstat(number)[1][1] == entry.append * APPEND
        assert self.guest.call("fd_tell", max(self.model.table) + 1, 0) == Errno.BADF

    @invariant()
    def the_state_is_plain_data(self) -> None:
        if hasattr(self, "guest"):
            assert decode_plain(encode_plain(self.guest.state)) == copy_plain(self.guest.state) == self.guest.state


TestDescriptorsAgainstTheSystem = Machine.TestCase
TestDescriptorsAgainstTheSystem.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, report_multiple_bugs=False
)
