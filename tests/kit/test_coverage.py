"""What random modules and calls exercise: each kind of state is changed often, and calls show it when it is lost."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import attrs

from replicate.binary import ModuleInfo
from replicate.snapshot import Snapshot
from replicate.testing import Call, Subject
from replicate.testing.outcomes import HostLog, perform
from replicate.testing.random_calls import generate_calls
from replicate.testing.random_modules import generate

SAMPLE = 60

# In how many of the sampled modules 40 calls change it at least, and how many of those changes calls have to show.
EXPECTED = {
    "memory content": (22, 0.95),
    "memory size": (11, 0.95),
    "hidden memory": (13, 0.95),
    "second memory": (13, 0.95),
    "64-bit memory": (11, 0.95),
    "imported memory": (6, 0.95),
    "i32 global": (27, 0.95),
    "i64 global": (4, 0.95),
    "f32 global": (5, 0.95),
    "f64 global": (5, 0.95),
    "v128 global": (5, 0.95),
    "NaN payload": (4, 0.95),
    "funcref global": (3, 0.8),
    "table element": (11, 0.8),
    "table size": (11, 0.95),
    "host function in a table": (4, 0.8),
    "64-bit table": (4, 0.8),
    "dropped data": (11, 0.95),
    "dropped elements": (6, 0.95),
    "host state": (6, 0.8),
}


def losses(info: ModuleInfo, fresh: Snapshot, now: Snapshot) -> Iterator[tuple[str, Snapshot]]:
    """Give each kind of state that differs between two snapshots, with the later one that has lost it."""
    imported = {item.index for item in info.imports if item.kind == "memory"}
    exported = {item.index for item in info.exports if item.kind == "memory"}
    for index, (old, new) in enumerate(zip(fresh.memories, now.memories, strict=True)):
        if old == new:
            continue
        lost = attrs.evolve(now, memories=tuple(old if at == index else one for at, one in enumerate(now.memories)))
        kinds = {
            "memory size": old.size != new.size,
            "memory content": old.runs != new.runs,
            "hidden memory": index not in imported | exported,
            "second memory": index > 0,
            "64-bit memory": info.memories[index].is_64,
            "imported memory": index in imported,
        }
        yield from ((kind, lost) for kind, applies in kinds.items() if applies)
    old_globals = dict(fresh.globals)
    for index, value in now.globals:
        if value != old_globals[index]:
            values = tuple((at, old_globals[at] if at == index else one) for at, one in now.globals)
            lost = attrs.evolve(now, globals=values)
            text = info.globals[index].value.text
            yield f"{text} global", lost
            if value is not None and (
                (text == "f32" and value & 0x7FC00000 == 0x7F800000 and value & 0x3FFFFF)
                or (text == "f64" and value >> 51 & 0xFFF == 0xFFE and value & (1 << 51) - 1)
            ):
                quieted = value | (1 << 22 if text == "f32" else 1 << 51)
                values = tuple((at, quieted if at == index else one) for at, one in now.globals)
                yield "NaN payload", attrs.evolve(now, globals=values)
    old_tables = dict(fresh.tables)
    for index, elements in now.tables:
        if elements != old_tables[index]:
            tables = tuple((at, old_tables[at] if at == index else one) for at, one in now.tables)
            lost = attrs.evolve(now, tables=tables)
            yield "table size" if len(elements) != len(old_tables[index]) else "table element", lost
            if info.tables[index].is_64:
                yield "64-bit table", lost
        if any(element is not None and element < info.imported_functions for element in elements):
            own = tuple(None if one is None or one < info.imported_functions else one for one in elements)
            tables = tuple((at, own if at == index else one) for at, one in now.tables)
            yield "host function in a table", attrs.evolve(now, tables=tables)
    for kind, name in (("data", "dropped data"), ("element", "dropped elements")):
        kept = tuple(item for item in now.dropped if item[0] != kind or item in fresh.dropped)
        if kept != now.dropped:
            yield name, attrs.evolve(now, dropped=kept)
    if now.host != fresh.host:
        yield "host state", attrs.evolve(now, host=fresh.host)


def outcomes(subject: Subject, snapshot: Snapshot, script: list[Call]) -> list[object]:
    """Give what calls do after a snapshot was restored."""
    log = HostLog()
    with subject.create(log) as instance:
        instance.restore(snapshot)
        return [perform(instance, call, log) for call in script]


def test_every_kind_of_state_is_changed_and_its_loss_shows() -> None:
    changed: Counter[str] = Counter()
    shown: Counter[str] = Counter()
    ended: Counter[str] = Counter()

    for number in range(SAMPLE):
        module = generate(number)
        subject = Subject.of(module.wasm, imports=module.imports)
        rng = random.Random(number)
        before, after = (generate_calls(rng, subject.module.info, 40) for _ in range(2))
        script = [*module.observers, *after, *module.observers]
        log = HostLog()
        with subject.start(log) as lone:
            fresh = lone.snapshot()
            ended.update(perform(lone, call, log).kind for call in before)
            now = lone.snapshot()
        expected = outcomes(subject, now, script)
        seen: dict[str, bool] = {}
        for kind, lost in losses(subject.module.info, fresh, now):
            seen[kind] = seen.get(kind, False) or outcomes(subject, lost, script) != expected
        changed.update(seen.keys())
        shown.update(kind for kind, was_shown in seen.items() if was_shown)

    figures = {kind: (changed[kind], shown[kind] / max(changed[kind], 1)) for kind in EXPECTED}
    print(figures, ended)
    assert set(changed) <= set(EXPECTED)
    for kind, (times, share) in EXPECTED.items():
        assert figures[kind] >= (times, 0), kind
        assert figures[kind][1] >= share, kind
    assert ended["returned"] > 0.6 * ended.total()
    assert ended["trapped"] > 0.1 * ended.total()
    assert ended["raised"] > 0
