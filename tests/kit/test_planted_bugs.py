"""The kit finds what it's there to find: bugs planted in the core and the backend, each caught within bounded examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from replicate import image, memory_modes, small_state, snapshot
from replicate.binary import effects
from replicate.core import PoolCore
from replicate.linux import PageMap
from replicate.memory_runs import PAGE, MemoryState, read_memory, write_memory
from replicate.pool_state import PoolState
from replicate.testing import DivergenceError, Feature, SnapshotMachine, assert_engine_replicates, assert_replicable
from replicate_wasmtime.engine import WasmtimeEngine
from replicate_wasmtime.instance import WasmtimeInstance
from replicate_wasmtime.module import WasmtimeModule

from .guests import GUESTS, imports_of

BOUND = 300
"""How many examples a bug may take; most take fewer than ten."""
SOUND = 30
"""How many are tried where there's no bug."""


@attrs.frozen
class Bug:
    """Be a bug: how to plant it, and the guest that it shows in; ``"random"`` where it takes luck to find it in any one."""

    guest: str
    plant: Callable[[pytest.MonkeyPatch], None]
    snapshots: bool = True
    """Whether `SnapshotMachine` is to see it too, which opens no pools, and finds what takes rare values less often."""


BUGS: dict[str, Bug] = {}


def bug(name: str, guest: str, *, snapshots: bool = True) -> Callable[[Callable[[pytest.MonkeyPatch], None]], None]:
    def add(plant: Callable[[pytest.MonkeyPatch], None]) -> None:
        BUGS[name] = Bug(guest, plant, snapshots)

    return add


def after(patch: pytest.MonkeyPatch, owner: Any, name: str, change: Callable[..., Any]) -> None:
    """Have `change(result, *args)` replace what a function gives."""
    original = getattr(owner, name)
    patch.setattr(owner, name, lambda *args, **named: change(original(*args, **named), *args))


# -- globals ---------------------------------------------------------------------------------------------------------------


@bug("a global is forgotten", "hidden")
def _(patch: pytest.MonkeyPatch) -> None:
    original = small_state.restore

    def restore(instance: Any, small: Any) -> None:
        index = instance.plan.globals[0].index
        kept = instance.global_bits(index)
        original(instance, small)
        instance.set_global_bits(index, kept)

    patch.setattr(small_state, "restore", restore)


@bug("a vector loses its high half", "hidden", snapshots=False)
def _(patch: pytest.MonkeyPatch) -> None:
    after(patch, WasmtimeInstance, "global_bits", lambda bits, *args: bits & (2**64 - 1))


def is_nan(bits: int, width: int) -> bool:
    mantissa = 23 if width == 32 else 52
    return (
        bits & (1 << mantissa) - 1 != 0
        and bits >> mantissa & (1 << width - 1 - mantissa) - 1 == (1 << width - 1 - mantissa) - 1
    )


def plant_quieting(patch: pytest.MonkeyPatch, kind: str, width: int, quiet: int) -> None:
    original = WasmtimeInstance.set_global_bits

    def set_global_bits(self: WasmtimeInstance, index: int, bits: int) -> None:
        if self.module.info.globals[index].value.text == kind and is_nan(bits, width):
            bits |= quiet
        original(self, index, bits)

    patch.setattr(WasmtimeInstance, "set_global_bits", set_global_bits)


@bug("a signalling NaN of 32 bits is quieted", "hidden", snapshots=False)
def _(patch: pytest.MonkeyPatch) -> None:
    plant_quieting(patch, "f32", 32, 1 << 22)


@bug("a signalling NaN of 64 bits is quieted", "random", snapshots=False)
def _(patch: pytest.MonkeyPatch) -> None:
    plant_quieting(patch, "f64", 64, 1 << 51)


@bug("a reference global becomes null", "tables")
def _(patch: pytest.MonkeyPatch) -> None:
    original = WasmtimeInstance.set_global_reference
    patch.setattr(WasmtimeInstance, "set_global_reference", lambda self, index, reference: original(self, index, None))


# -- tables and segments ---------------------------------------------------------------------------------------------------


@bug("table elements are off by one", "tables")
def _(patch: pytest.MonkeyPatch) -> None:
    original = WasmtimeInstance.set_table_reference

    def set_table_reference(self: WasmtimeInstance, index: int, position: int, reference: int | None) -> None:
        original(self, index, (position + 1) % self.table_size(index), reference)

    patch.setattr(WasmtimeInstance, "set_table_reference", set_table_reference)


@bug("a table's growth is forgotten", "tables")
def _(patch: pytest.MonkeyPatch) -> None:
    def clip(small: Any, instance: Any, *args: Any) -> Any:
        types = instance.module.info.tables
        return attrs.evolve(
            small, tables={index: elements[: types[index].minimum] for index, elements in small.tables.items()}
        )

    after(patch, small_state, "capture", clip)


@bug("a table that is too large stays so", "tables")
def _(patch: pytest.MonkeyPatch) -> None:
    original = WasmtimeInstance.table_references
    restore = small_state.restore

    def clipped(instance: Any, small: Any) -> None:
        sizes = {index: len(elements) for index, elements in small.tables.items()}
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(
                WasmtimeInstance, "table_references", lambda self, index: original(self, index)[: sizes[index]]
            )
            restore(instance, small)

    patch.setattr(small_state, "restore", clipped)
    patch.setattr(
        small_state,
        "must_rebuild",
        lambda instance, small: any(
            at not in small.dropped and small_state.is_dropped(instance, segment.probe)
            for at, segment in enumerate(instance.plan.segments)
        ),
    )


@bug("an imported function in a table becomes null", "tables", snapshots=False)
def _(patch: pytest.MonkeyPatch) -> None:
    def own(references: Any, instance: Any, *args: Any) -> Any:
        imported = instance.module.info.imported_functions
        return tuple(None if isinstance(one, int) and one < imported else one for one in references)

    after(patch, WasmtimeInstance, "table_references", own)


@bug("the scan overlooks how tables are written", "tables")
def _(patch: pytest.MonkeyPatch) -> None:
    original = effects.scan_effects
    patch.setattr(
        "replicate.binary.scan_effects",
        lambda wasm, info: attrs.evolve(original(wasm, info), tables_written=frozenset()),
    )


@bug("a dropped segment isn't noted", "segments")
def _(patch: pytest.MonkeyPatch) -> None:
    after(patch, small_state, "capture", lambda small, *args: attrs.evolve(small, dropped=frozenset()))


@bug("a dropped segment doesn't come back", "segments")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(small_state, "must_rebuild", lambda instance, small: False)


# -- memories --------------------------------------------------------------------------------------------------------------


@bug("a memory's last page is forgotten", "random", snapshots=False)
def _(patch: pytest.MonkeyPatch) -> None:
    def shorten(state: MemoryState, *args: Any) -> MemoryState:
        end = state.size - PAGE
        return MemoryState(state.size, tuple((at, data[: end - at]) for at, data in state.runs if at < end))

    after(patch, snapshot, "read_memory", shorten)


@bug("a memory's growth is forgotten", "hidden")
def _(patch: pytest.MonkeyPatch) -> None:
    def clip(state: MemoryState, *args: Any) -> MemoryState:
        return MemoryState(65536, tuple((at, data) for at, data in state.runs if at + len(data) <= 65536))

    after(patch, snapshot, "read_memory", clip)


@bug("a memory that is too large stays so", "hidden")
def _(patch: pytest.MonkeyPatch) -> None:
    original = snapshot.fill_memory

    def fill_memory(instance: Any, index: int, memory: MemoryState) -> None:
        larger = max(memory.size, len(instance.memory_view(index)))
        original(instance, index, attrs.evolve(memory, size=larger))

    patch.setattr(snapshot, "fill_memory", fill_memory)
    patch.setattr(WasmtimeInstance, "rebuild", lambda self: None)


@bug("pages of zeros aren't written", "hidden")
def _(patch: pytest.MonkeyPatch) -> None:
    original = write_memory
    patch.setattr(
        snapshot, "write_memory", lambda view, state, *, clear: original(view, state, clear=lambda start, end: None)
    )


@bug("a snapshot shares the live memory", "hidden")
def _(patch: pytest.MonkeyPatch) -> None:
    owners: list[tuple[Any, Any]] = []
    original = snapshot.put_back

    def note(taken: Any, instance: Any) -> Any:
        owners.append((taken, instance))
        return taken

    def put_back(instance: Any, given: Any) -> None:
        for taken, owner in owners:
            if taken is given and not owner.cell.stale:
                slots = owner.plan.memories
                now = tuple(read_memory(owner.memory_view(slot.index)) for slot in slots)
                given = attrs.evolve(given, memories=now)
        original(instance, given)

    after(patch, snapshot, "take", note)
    patch.setattr(snapshot, "put_back", put_back)


@bug("hidden memories are skipped", "hidden")
def _(patch: pytest.MonkeyPatch) -> None:
    original = snapshot.fill_memory

    def fill_memory(instance: Any, index: int, memory: MemoryState) -> None:
        if index in instance.module.info.exposed("memory"):
            original(instance, index, memory)

    patch.setattr(snapshot, "fill_memory", fill_memory)


@bug("a memory of 64 bits is skipped", "memories")
def _(patch: pytest.MonkeyPatch) -> None:
    original = snapshot.fill_memory

    def fill_memory(instance: Any, index: int, memory: MemoryState) -> None:
        if not instance.module.info.memories[index].is_64:
            original(instance, index, memory)

    patch.setattr(snapshot, "fill_memory", fill_memory)


@bug("a snapshot that is read back lacks its last run", "memories")
def _(patch: pytest.MonkeyPatch) -> None:
    def shorten(read: Any, *args: Any) -> Any:
        return attrs.evolve(
            read, memories=tuple(attrs.evolve(memory, runs=memory.runs[:-1]) for memory in read.memories)
        )

    after(patch, snapshot, "_checked", shorten)


# -- whole instances -------------------------------------------------------------------------------------------------------


@bug("a snapshot's module isn't looked at", "hidden", snapshots=False)
def _(patch: pytest.MonkeyPatch) -> None:
    original = snapshot.to_small_state
    patch.setattr(
        snapshot,
        "to_small_state",
        lambda instance, given: original(instance, attrs.evolve(given, module_digest=instance.module.info.digest)),
    )


@bug("every new instance starts", "start")
def _(patch: pytest.MonkeyPatch) -> None:
    starting = False

    def start(instance: Any, *args: Any) -> Any:
        nonlocal starting
        if not starting:
            starting = True
            instance.run_start()
            starting = False
        return instance

    after(patch, WasmtimeModule, "create", start)


@bug("host state is shared instead of copied", "notes", snapshots=False)
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(small_state, "copy_plain", lambda value: value)


# -- pools -----------------------------------------------------------------------------------------------------------------


@bug("a commit takes the state from before the write", "hidden", snapshots=False)
def _(patch: pytest.MonkeyPatch) -> None:
    original = image.StateImage.prepare

    def prepare(self: Any, leader: Any) -> Any:
        original(self, leader)
        return self._small

    patch.setattr(image.StateImage, "prepare", prepare)


@bug("a replica isn't reset after a read", "hidden", snapshots=False)
def _(patch: pytest.MonkeyPatch) -> None:
    original = PoolState.read_done
    patch.setattr(
        PoolState, "read_done", lambda self, slot, *, dirty, lost=False: original(self, slot, dirty=False, lost=lost)
    )


@bug("a failed write isn't rolled back", "hidden", snapshots=False)
def _(patch: pytest.MonkeyPatch) -> None:
    # A leader of which nobody says that it's sound would be replaced.
    patch.setattr(PoolCore, "roll_back", lambda self: setattr(self, "_leader_is_sound", True))


if memory_modes.why_not_copy_on_write() is None:

    @bug("a written page isn't seen", "memories", snapshots=False)
    def _(patch: pytest.MonkeyPatch) -> None:
        after(patch, PageMap, "private", lambda ranges, *args: ranges[:-1])


# -- the tests -------------------------------------------------------------------------------------------------------------


def prove(guest: str, *, examples: int) -> None:
    """Run the public kit on a guest, with an engine that has compiled nothing before."""
    if guest == "random":
        assert_engine_replicates(WasmtimeEngine(cache=False), modules=examples, features=Feature.ALL, shrink_seconds=2)
        return
    assert_replicable(
        GUESTS[guest],
        imports=lambda: imports_of(guest),
        engine=WasmtimeEngine(cache=False),
        max_examples=examples,
        max_calls=8,
        seed=1,
    )


def machine_of(guest: str) -> type[SnapshotMachine]:
    """Make the state machine for a guest."""

    class Machine(SnapshotMachine):
        module = GUESTS[guest]
        engine = WasmtimeEngine(cache=False)

        def imports(self) -> Any:
            return imports_of(guest)

    return Machine


def run_machine(guest: str, *, examples: int) -> None:
    run_state_machine_as_test(
        machine_of(guest),
        settings=settings(
            max_examples=examples,
            stateful_step_count=12,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("name", sorted(BUGS))
def test_a_planted_bug_is_caught_with_a_short_script(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    BUGS[name].plant(monkeypatch)

    with pytest.raises(DivergenceError) as caught:
        prove(BUGS[name].guest, examples=BOUND)
    assert len(caught.value.divergence.calls) <= 3, str(caught.value)
    assert "Script:" in str(caught.value)


@pytest.mark.parametrize("name", sorted(name for name, planted in BUGS.items() if planted.snapshots))
def test_the_state_machine_catches_it_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    BUGS[name].plant(monkeypatch)

    with pytest.raises(Exception) as caught:
        run_machine(BUGS[name].guest, examples=BOUND)
    assert not isinstance(caught.value, (TypeError, AttributeError))


@pytest.mark.parametrize("guest", sorted(GUESTS))
def test_without_a_bug_nothing_is_caught(guest: str) -> None:
    prove(guest, examples=SOUND)
    run_machine(guest, examples=SOUND)
