"""Nothing outside a preopened folder is ever read, changed or even looked at."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from replicate.wasi import Errno, Wasi

from .support import CREAT, EXCL, TRUNC, FakeGuest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows can't preopen folders")

SECRET = b"nobody may read this"


class World:
    """Be a sandbox with things around it that a guest might want."""

    def __init__(self, root: Path) -> None:
        self.inside = root / "sandbox"
        self.outside = root / "outside"
        for folder in (self.inside / "a" / "b", self.outside / "deep", root / "sandbox-not"):
            folder.mkdir(parents=True)
        for file in (self.outside / "secret", self.outside / "deep" / "secret", root / "secret"):
            file.write_bytes(SECRET)
        (root / "sandbox-not" / "secret").write_bytes(SECRET)
        (self.inside / "a" / "file").write_bytes(b"mine")
        self.root = root
        self.before = self.look()

    def look(self) -> dict[str, Any]:
        """Describe everything outside, times included."""
        found = {}
        for folder, folders, files in os.walk(self.root):
            if Path(folder) == self.root:
                folders.remove("sandbox")
            for name in [*folders, *files]:
                path = Path(folder, name)
                about = path.lstat()
                content = path.read_bytes() if name in files else b""
                found[str(path)] = (about.st_ino, about.st_mode, about.st_nlink, about.st_mtime_ns, content)
        return found

    def inodes(self) -> set[int]:
        found = {self.inside.stat().st_ino}
        for folder, folders, files in os.walk(self.inside):
            found |= {Path(folder, name).lstat().st_ino for name in [*folders, *files]}
        return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


targets = st.sampled_from(
    [
        "..",
        "../outside",
        "../outside/secret",
        "../../secret",
        "ABSOLUTE",
        "ABSOLUTE/secret",
        "a/../..",
        "a/b/../../../outside",
        "./../sandbox-not",
        "a",
        "a/file",
        "x",
        "y/..",
        "x/../../outside/deep",
        "..//outside/.",
    ]
)
names = st.sampled_from(["a", "b", "x", "y", "z", "..", ".", "secret", "outside", "sandbox-not", "deep", "file"])
paths = st.builds(
    lambda parts, start, end: start + "/".join(parts) + end,
    st.lists(names, min_size=1, max_size=5),
    st.sampled_from(["", "", "", "", "/", "./", "ABSOLUTE/"]),
    st.sampled_from(["", "", "/", "/."]),
)
links = st.lists(st.tuples(st.sampled_from(["x", "y", "a/x", "a/y", "a/b/x"]), targets), max_size=5)
calls = st.lists(
    st.tuples(
        st.sampled_from(
            ["open", "create", "stat", "mkdir", "rmdir", "unlink", "rename", "link", "symlink", "readlink", "times"]
        ),
        paths,
        paths,
        st.booleans(),
    ),
    min_size=1,
    max_size=12,
)


@given(links=links, calls=calls)
@example(links=[("x", "../outside")], calls=[("open", "x/secret", "a", True)])
@example(links=[("x", "ABSOLUTE/secret")], calls=[("open", "x", "a", True)])
@example(links=[("x", "../outside/secret")], calls=[("link", "x", "a/z", False)])
@example(links=[("x", "../outside")], calls=[("link", "x/secret", "a/z", True)])
@settings(max_examples=300, deadline=None)
def test_no_path_and_no_symlink_leads_outside(
    links: list[tuple[str, str]], calls: list[tuple[str, str, str, bool]]
) -> None:
    root = Path(tempfile.mkdtemp())
    try:
        _attack(World(root), links, calls)
    finally:
        shutil.rmtree(root)


def _attack(world: World, links: list[tuple[str, str]], calls: list[tuple[str, str, str, bool]]) -> None:
    def real(path: str) -> str:
        return path.replace("ABSOLUTE", str(world.outside))

    for name, target in links:
        if not os.path.lexists(world.inside / name):
            os.symlink(real(target), world.inside / name)
    guest = FakeGuest(Wasi(preopens={"/": world.inside}))
    for what, one, two, follow in calls:
        inside = world.inodes()
        first, second = real(one), real(two)
        if what in ("open", "create"):
            errno, fd = guest.open(first, oflags=CREAT | TRUNC if what == "create" else 0, follow=follow)
            if errno == 0:
                assert guest.fstat(fd)[1][1] in inside | world.inodes()
                assert SECRET not in guest.pread(fd, 100, 0)[1]
                guest.write(fd, b"gotcha")
                guest.close(fd)
        elif what == "stat":
            errno, about = guest.stat(first, follow=follow)
            assert errno != 0 or about[1] in inside
        elif what == "mkdir":
            guest.on_path("path_create_directory", first)
        elif what == "rmdir":
            guest.on_path("path_remove_directory", first)
        elif what == "unlink":
            guest.on_path("path_unlink_file", first)
        elif what == "rename":
            guest.rename(first, second)
        elif what == "link":
            guest.link(first, second, follow=follow)
        elif what == "symlink":
            guest.symlink(first, second)
        elif what == "readlink":
            guest.readlink(first)
        else:
            guest.set_times(first, 1, 1, 5, follow=follow)
    assert world.look() == world.before


def _swaps(world: World, kind: str) -> Callable[[], None]:
    """Make a function that puts a symlink to the outside in a folder's or file's place, and back at the next call."""
    name = world.inside / kind
    other = world.inside / "other"
    if kind == "d":
        name.mkdir()
        (name / "secret").write_bytes(b"mine")
        other.symlink_to(world.outside)
    else:
        name.write_bytes(b"mine")
        other.symlink_to(world.outside / "secret")

    def swap() -> None:
        spare = world.inside / "spare"
        os.rename(name, spare)
        os.rename(other, name)
        os.rename(spare, other)

    return swap


class Adversary:
    """Swap something before the n-th system call that looks a name up, and again before each that follows."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, swap: Callable[[], None], first: int) -> None:
        self.calls = 0
        self.active = False
        for name in ("open", "stat", "readlink", "utime", "link", "unlink", "rename"):
            monkeypatch.setattr(os, name, self._wrapped(getattr(os, name), swap, first))

    def _wrapped(self, real: Any, swap: Callable[[], None], first: int) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self.active:
                self.active = False
                self.calls += 1
                if self.calls >= first:
                    swap()
                self.active = True
            return real(*args, **kwargs)

        return call


@pytest.mark.parametrize("first", range(1, 8))
@pytest.mark.parametrize("path", ["d/secret", "d/../d/secret", "f"])
@pytest.mark.parametrize("follow", [True, False])
def test_swapping_a_symlink_in_at_any_moment_never_leads_outside(
    world: World, monkeypatch: pytest.MonkeyPatch, first: int, path: str, follow: bool
) -> None:
    swap = _swaps(world, path[0])
    guest = FakeGuest(Wasi(preopens={"/": world.inside}))
    guest.fstat(3)
    inside = world.inodes()
    adversary = Adversary(monkeypatch, swap, first)

    def attacked(action: Callable[[], Any]) -> Any:
        adversary.calls = 0
        adversary.active = True
        try:
            return action()
        finally:
            adversary.active = False

    for _ in range(4):
        errno, fd = attacked(lambda: guest.open(path, follow=follow))
        if errno == 0:
            assert guest.pread(fd, 100, 0)[1] == b"mine"
            guest.close(fd)
        errno, about = attacked(lambda: guest.stat(path, follow=follow))
        assert errno != 0 or about[1] in inside
        attacked(lambda: guest.link(path, "copy", follow=follow))
        assert world.look() == world.before
        attacked(lambda: guest.on_path("path_unlink_file", "copy"))
        attacked(lambda: guest.set_times(path, 1, 1, 5, follow=follow))
    monkeypatch.undo()
    assert world.look() == world.before


@pytest.mark.parametrize("first", range(1, 5))
def test_a_replica_opens_no_symlink_that_took_the_files_place(
    world: World, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    swap = _swaps(world, "d")
    guest = FakeGuest(Wasi(preopens={"/": world.inside}))
    fd = guest.opened("d/secret")
    for _ in range(3):
        replica = guest.replica()
        adversary = Adversary(monkeypatch, swap, first)
        adversary.active = True
        errno, found = replica.read(fd, 100)
        adversary.active = False
        monkeypatch.undo()
        assert (errno, found) in [(0, b"mine"), (Errno.STALE, b"")]


@pytest.fixture
def guest(world: World) -> FakeGuest:
    return FakeGuest(Wasi(preopens={"/": world.inside}))


@pytest.mark.parametrize(
    "path", ["..", "a/../..", "/", "/etc/passwd", "../sandbox/a/file", "a/b/../../../outside/secret"]
)
def test_a_path_that_leads_outside_is_not_permitted(guest: FakeGuest, path: str) -> None:
    assert guest.open(path)[0] == Errno.PERM
    assert guest.stat(path)[0] == Errno.PERM


def test_a_folder_opened_by_the_guest_is_a_sandbox_of_its_own(guest: FakeGuest) -> None:
    fd = guest.folder("a/b")
    assert guest.open("..", fd=fd)[0] == Errno.PERM
    assert guest.open("../file", fd=fd)[0] == Errno.PERM


def test_a_symlink_with_dots_that_stays_inside_works(guest: FakeGuest, world: World) -> None:
    (world.inside / "a" / "b" / "up").symlink_to("../../a/file")
    assert guest.read(guest.opened("a/b/up"), 100) == (0, b"mine")


def test_an_absolute_symlink_cannot_be_made(guest: FakeGuest, world: World) -> None:
    assert guest.symlink("/etc", "etc") == Errno.PERM
    assert not os.path.lexists(world.inside / "etc")


def test_symlinks_in_a_circle_end_after_forty(guest: FakeGuest, world: World) -> None:
    (world.inside / "one").symlink_to("two")
    (world.inside / "two").symlink_to("one")
    assert guest.open("one")[0] == Errno.LOOP
    assert guest.open("one/more")[0] == Errno.LOOP


def test_forty_symlinks_in_a_row_are_followed_and_one_more_is_not(guest: FakeGuest, world: World) -> None:
    for step in range(41):
        (world.inside / f"l{step}").symlink_to(f"l{step + 1}")
    (world.inside / "l41").write_bytes(b"found")
    assert guest.stat("l1")[0] == 0
    assert guest.stat("l0")[0] == Errno.LOOP


def test_creating_through_a_symlink_makes_its_target_unless_it_must_be_new(guest: FakeGuest, world: World) -> None:
    (world.inside / "a" / "link").symlink_to("b/target")
    assert guest.open("a/link", oflags=CREAT | EXCL)[0] == Errno.EXIST
    assert not (world.inside / "a" / "b" / "target").exists()
    assert guest.open("a/link", oflags=CREAT)[0] == 0
    assert (world.inside / "a" / "b" / "target").exists()


def test_symlinks_that_double_at_each_step_end_too(guest: FakeGuest, world: World) -> None:
    for step in range(30):
        (world.inside / f"l{step}").symlink_to(f"l{step + 1}/../l{step + 1}")
    (world.inside / "l30").mkdir()
    assert guest.open("l0")[0] == Errno.LOOP


def test_a_path_deeper_than_the_limit_is_too_long(guest: FakeGuest, world: World) -> None:
    deep = world.inside.joinpath(*["d"] * 260)
    deep.mkdir(parents=True)
    assert guest.stat("/".join(["d"] * 250))[0] == 0
    assert guest.stat("/".join(["d"] * 260))[0] == Errno.NAMETOOLONG


@pytest.mark.parametrize(
    "path", ["a/../" * 800 + "a/file", "a/b/../b/nothing", "a/b/../../..", "d/" * 259 + "d", "c/x"]
)
def test_a_lookup_leaves_no_host_descriptor_open(guest: FakeGuest, world: World, path: str) -> None:
    world.inside.joinpath(*["d"] * 260).mkdir(parents=True)
    (world.inside / "c").symlink_to("c")
    guest.fstat(3)
    before = len(os.listdir("/dev/fd"))
    guest.stat(path)
    assert len(os.listdir("/dev/fd")) == before


def test_a_dot_at_the_end_needs_a_folder_before_it(guest: FakeGuest, world: World) -> None:
    (world.inside / "link").symlink_to("a")
    assert guest.on_path("path_create_directory", "new/.") == Errno.NOENT
    assert guest.on_path("path_create_directory", "link/.") == Errno.EXIST
    assert guest.stat("a/file/.")[0] == Errno.NOTDIR
    assert guest.stat("link/.", follow=False)[1][2] == 3
    assert guest.readlink("link/.")[0] == Errno.INVAL


@pytest.mark.parametrize(
    ("path", "errno"),
    [(b"", Errno.NOENT), (b"a\0b", Errno.INVAL), (b"\xff", Errno.ILSEQ), (b"x" * 4097, Errno.NAMETOOLONG)],
)
def test_a_path_that_is_no_path_is_refused(guest: FakeGuest, path: bytes, errno: Errno) -> None:
    assert guest.open(path)[0] == errno


def test_a_forged_state_cannot_lead_outside(guest: FakeGuest, world: World) -> None:
    fd = guest.opened("a/file")
    (world.inside / "link").symlink_to("../outside/secret")
    (world.inside / "out").symlink_to("../outside")
    for forged in (b"../outside/secret", b"/etc/passwd", b"a/../../outside/secret", b"link", b"out/secret"):
        state = guest.save()
        state["wasi"]["descriptors"][fd]["path"] = forged
        state["wasi"]["descriptors"][fd]["identity"] = (0, 0, 0, 0, 0, True, True)
        errno, found = FakeGuest(guest.wasi, state=state).read(fd, 100)
        assert errno != 0
        assert found == b""
