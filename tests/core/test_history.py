"""Linearizability of recorded histories, and planted bugs that the proofs must catch.

All writes go through one leader, one after the other, so the sequential model is a list of states, one for each version. A
history is linearizable exactly when every read saw a state of that list, no older than the newest version committed before
the read began and no newer than the newest that could have been committed when it ended, and the versions that writes
report are 1, 2, 3 ... in an order that real time agrees with.
"""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import attrs
import pytest

from replicate import Pool, linux
from replicate.copy_on_write import CopyOnWriteSnapshot
from replicate.decisions import Phase, Slot
from replicate.errors import GuestTimeoutError, PoolTimeoutError, ReplicateError
from replicate.memory import PlainCopySnapshot
from replicate.memory_modes import why_not_copy_on_write
from replicate.pool_state import PoolState

CELLS = 24
PAGE = 4096

GUEST = f"""(module (memory (export "memory") 4 64) (global $version (mut i64) (i64.const 0))
  (func (export "write") (param $seed i32) (result i64) (local $i i32)
    (global.set $version (i64.add (global.get $version) (i64.const 1)))
    (loop $l (i64.store (i32.mul (local.get $i) (i32.const {PAGE})) (i64.add (i64.mul (global.get $version) (i64.const 1000))
        (i64.extend_i32_u (local.get $i))))
      (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const {CELLS}))))
    (global.get $version))
  (func (export "cell") (param i32) (result i64) (i64.load (i32.mul (local.get 0) (i32.const {PAGE}))))
  (func (export "version") (result i64) (global.get $version))
  (func (export "smear") (param $i i32) (i64.store (i32.mul (local.get $i) (i32.const {PAGE})) (i64.const -1)))
  (func (export "forever") (loop $l (br $l))))"""


@attrs.frozen
class Event:
    """Record one transaction: when it was asked for, when it had returned, and the version it wrote or saw."""

    kind: str
    began: float
    ended: float
    version: int


def check(events: list[Event]) -> None:
    """Raise AssertionError unless the history is linearizable."""
    writes = sorted((event for event in events if event.kind == "write"), key=lambda event: event.version)
    assert [event.version for event in writes] == list(range(1, len(writes) + 1)), "each version is written once"
    for earlier, later in zip(writes, writes[1:], strict=False):
        assert earlier.began < later.ended, "versions follow real time"
    for read in (event for event in events if event.kind == "read"):
        least = max((write.version for write in writes if write.ended < read.began), default=0)
        most = max((write.version for write in writes if write.began < read.ended), default=0)
        assert least <= read.version <= most, f"a read saw version {read.version}, outside {least}..{most}"


class Mixed(AssertionError):
    """Say that one read saw parts of two states."""


def one_version(guest: Any, *, pause: float = 0.0) -> int:
    """Read everything, and give the one version that all of it belongs to."""
    version = int(guest.call("version"))
    cells = []
    for cell in range(CELLS):
        cells.append(guest.call("cell", cell))
        if pause and cell % 4 == 0:
            time.sleep(pause)
    if version and cells != [1000 * version + cell for cell in range(CELLS)]:
        raise Mixed(f"at version {version}: {cells}")
    if not version and any(cells):
        raise Mixed(f"at the beginning: {cells}")
    if guest.call("version") != version:
        raise Mixed("the version changed during the read")
    return version


def record(*, seconds: float, memory: Any, threads: int = 8, reset: Any = "each_read") -> list[Event]:
    """Hammer a pool and record what happened; raises what any thread met that it shouldn't."""
    events: list[Event] = []
    wrong: list[BaseException] = []
    stop = time.monotonic() + seconds
    with Pool.open(GUEST, replicas=3, min_replicas=1, memory=memory, reset=reset) as pool:

        def work(number: int) -> None:
            rng = random.Random(number)
            while time.monotonic() < stop and not wrong:
                choice = rng.random()
                began = time.monotonic()
                try:
                    if choice < 0.25:
                        version = int(pool.write(lambda guest: guest.call("write", 1)))
                        events.append(Event("write", began, time.monotonic(), version))
                    elif choice < 0.35:
                        with pytest.raises(ZeroDivisionError):
                            pool.write(lambda guest: (guest.call("write", 1), guest.memory.grow(1), 1 / 0))
                    elif choice < 0.4:
                        with pytest.raises((GuestTimeoutError, PoolTimeoutError)):
                            pool.write(lambda guest: (guest.call("write", 1), guest.call("forever")), timeout=0.01)
                    elif choice < 0.45:
                        pool.resize(rng.randint(1, 5))
                    elif choice < 0.5:
                        with pool.branch() as branch:
                            here = one_version_of(branch)
                            branch.write(lambda guest: guest.call("write", 1))
                            assert one_version_of(branch) == here + 1
                        events.append(Event("read", began, time.monotonic(), here))
                    elif choice < 0.53:
                        with pytest.raises((GuestTimeoutError, PoolTimeoutError)):
                            pool.read(lambda guest: (guest.call("smear", 3), guest.call("forever")), timeout=0.01)
                    elif choice < 0.6 and reset == "each_read":
                        pool.read(lambda guest: [guest.call("smear", cell) for cell in range(CELLS)])
                    else:
                        pause = 0.001 if rng.random() < 0.5 else 0.0
                        version = pool.read(
                            lambda guest, pause=pause: one_version(guest, pause=pause), any_thread=rng.random() < 0.5
                        )
                        events.append(Event("read", began, time.monotonic(), version))
                except BaseException as error:
                    wrong.append(error)

        workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    if wrong:
        raise wrong[0]
    return events


def one_version_of(pool: Pool) -> int:
    """Read everything from a pool."""
    return pool.read(one_version)


MODES = ["copy", *(["copy-on-write"] if why_not_copy_on_write() is None else [])]


@pytest.mark.parametrize("memory", MODES)
@pytest.mark.parametrize("reset", ["each_read", "on_commit"])
def test_recorded_histories_are_linearizable(memory: str, reset: str) -> None:
    events = record(seconds=1, memory=memory, reset=reset)
    check(events)
    kinds = [event.kind for event in events]
    assert kinds.count("write") > 20
    assert kinds.count("read") > 50


def test_the_checker_knows_a_bad_history() -> None:
    good = [Event("write", 0, 1, 1), Event("read", 2, 3, 1), Event("write", 2, 5, 2), Event("read", 4, 6, 2)]
    check(good)
    for bad in (
        Event("read", 6, 7, 1),
        Event("read", 0.1, 0.2, 2),
        Event("write", 7, 8, 2),
        Event("write", 7, 8, 4),
    ):
        with pytest.raises(AssertionError):
            check([*good, bad])


def plant_stale_idle_replicas(patch: pytest.MonkeyPatch) -> None:
    """Forget that private pages don't follow the image: a replica of an older version is taken as it is."""
    right = PoolState.image_done

    def image_done(self: PoolState, *, committed: bool) -> None:
        right(self, committed=committed)
        for slot in self.slots.values():
            if slot.phase is Phase.IDLE and slot.version >= 0:
                slot.version = self.version

    patch.setattr(PoolState, "image_done", image_done)


def plant_no_reset(patch: pytest.MonkeyPatch) -> None:
    """Leave what reads changed in their replicas."""
    right = PoolState.read_done

    def read_done(self: PoolState, slot: Slot, *, dirty: bool, lost: bool = False) -> None:
        right(self, slot, dirty=False, lost=lost)

    patch.setattr(PoolState, "read_done", read_done)


def plant_torn_restore(patch: pytest.MonkeyPatch) -> None:
    """Let a commit have the image while starting reads copy from it; both take their time."""
    patch.setattr(PoolState, "image_wanted", lambda self, ticket: True)
    for kind in (CopyOnWriteSnapshot, PlainCopySnapshot):
        for name in ("commit", "restore"):
            patch.setattr(kind, name, _slowed(getattr(kind, name)))


def _slowed(method: Any) -> Any:
    copies = (linux.copy, linux.copy_long)

    def slow(self: Any, instance: Any) -> Any:
        def dawdle(target: int, source: int, size: int) -> None:
            for at in range(0, size, PAGE):
                copies[0](target + at, source + at, min(PAGE, size - at))
                time.sleep(0.0005)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(linux, "copy", dawdle)
            patch.setattr(linux, "copy_long", dawdle)
            return method(self, instance)

    return slow


def plant_no_protection(patch: pytest.MonkeyPatch) -> None:
    """Let commits change what running reads see."""
    patch.setattr(CopyOnWriteSnapshot, "protect", lambda self, leader, running: None)


def plant_no_roll_back(patch: pytest.MonkeyPatch) -> None:
    """Leave half a change on the leader, for the next write to publish, as the original did."""
    patch.setattr("replicate.core.PoolCore.roll_back", lambda self: setattr(self, "_leader_is_sound", True))


def plant_forgotten_globals(patch: pytest.MonkeyPatch) -> None:
    """Replicate memory only."""
    patch.setattr("replicate.small_state.restore", lambda instance, small: None)


@pytest.mark.skipif(why_not_copy_on_write() is not None, reason="the bugs are in copy-on-write replication")
@pytest.mark.parametrize(
    "plant",
    [
        plant_stale_idle_replicas,
        plant_no_reset,
        plant_torn_restore,
        plant_no_protection,
        plant_no_roll_back,
        plant_forgotten_globals,
    ],
)
def test_planted_bugs_are_caught(plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def caught() -> bool:
        # Where every read is followed by a reset, no replica is ever stale.
        rule = "on_commit" if plant is plant_stale_idle_replicas else "each_read"
        try:
            check(record(seconds=2, memory="copy-on-write", reset=rule))
        except (AssertionError, ReplicateError):
            return True
        return False

    plant(monkeypatch)
    assert any(caught() for _ in range(3)), f"nobody noticed: {plant.__doc__}"
