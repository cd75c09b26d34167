"""The proof for one's own module, in one line: `assert_replicable`."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import attrs
import hypothesis
from hypothesis import HealthCheck
from hypothesis import strategies as st
from hypothesis.errors import Flaky

from replicate.errors import MissingExportError, ReplicateWarning, SnapshotFormatError, SnapshotMismatchError
from replicate.interfaces import Engine, Module
from replicate.snapshot import Snapshot
from replicate.testing.carriers import Carrier
from replicate.testing.observation import observe
from replicate.testing.oracle import Divergence, DivergenceError, Oracle
from replicate.testing.outcomes import HostLog
from replicate.testing.random_calls import Call, as_call, callable_exports
from replicate.testing.random_calls import calls as calls_of
from replicate.testing.subject import ImportSource, Subject

__all__ = ["assert_replicable"]

Script = Sequence["Call | Sequence[Any]"]


def assert_replicable(
    module: bytes | str | Path | Module,
    calls: Script | st.SearchStrategy[Script] | None = None,
    *,
    imports: ImportSource = None,
    engine: str | Engine = "wasmtime",
    carriers: Sequence[str | type[Carrier]] | None = None,
    carrier_engine: str | None = None,
    skip: Collection[str] = (),
    every: int = 1,
    max_examples: int = 100,
    max_calls: int = 20,
    timeout: float | None = 5.0,
    max_growth: int | None = 1 << 20,
    seed: int | None = None,
    on_example: Callable[[], object] | None = None,
) -> None:
    """Check that a module's state is carried bit for bit, whatever it's asked to do.

    ::

        def test_my_guest_is_replicable() -> None:
            assert_replicable("guest.wasm")

    Scripts of calls run on a lone instance and, side by side, on instances whose state goes through a snapshot after every
    `every` calls: restored in place after everything has been changed, on a fresh instance, on a used one, from bytes, through
    pools, and through `carrier_engine` if one is named. All must give the same results, traps, host calls and states.

    `module` is a path, a binary, WAT text, or compiled. `calls` is one script, a list of ``("name", *values)`` or `Call`, or
    a strategy for scripts; left out, scripts of up to `max_calls` calls are drawn from the exports that arguments can be
    made for, but those in `skip`: name exports there that never return, or that are meant to fail.

    `imports` are what the module is given; what is missing gets stand-ins (see `default_imports`): seeded WASI, functions
    that return zeros. Give a function that makes the imports if they keep something outside of `guest.state`; and expect
    them to be called more often than a script says, since calls are repeated on state that is then thrown away. `engine`
    and `carrier_engine` are names; `carriers` narrows down how state is carried (see `carrier_names`).

    `max_examples` scripts are run. A failing script is shrunk, and the error's message shows it with the line that runs it
    again. `seed` draws the same scripts again; without one they differ from run to run. `on_example` is called after each
    script that agreed.

    A script ends at a call that runs out of stack, or for more than `timeout` seconds (if the engine can interrupt); an
    export that did is left out of the scripts that follow, and a `ReplicateWarning` names it. No memory grows by more than
    `max_growth` bytes (if the engine can limit it).

    Costs, for each call and carrier, about a snapshot, a restore and a copy of the guest's memories: raise `every` and lower
    `max_examples` for guests of many megabytes.

    Raises `DivergenceError`; `MissingExportError` for a name in `skip` that isn't an exported function's;
    `NotReplicableError` for a module that can't be carried at all; and whatever starting the module raises.
    """
    subject = Subject.of(module, imports=imports, engine=engine, max_growth=max_growth)
    oracle = Oracle.of(subject, carriers=carriers, carrier_engine=carrier_engine, every=every, timeout=timeout)
    types = subject.function_types()
    _check_refusals(subject)
    if isinstance(calls, Sequence):
        _check_script(oracle, [as_call(call, types) for call in calls])
        return
    exported = {export.name for export in subject.module.info.exports if export.kind == "func"}
    unknown = sorted(set(_names(skip)) - exported)
    if unknown:
        raise MissingExportError(
            f"skip names {', '.join(map(repr, unknown))}; the module exports no such function, but "
            f"{', '.join(sorted(exported)) or 'none'}"
        )
    if calls is None:
        names = [name for name in callable_exports(subject.module.info) if name not in _names(skip)]
        scripts: st.SearchStrategy[list[Call]] = calls_of(subject.module.info, names=names, max_calls=max_calls)
    else:
        scripts = calls.map(lambda script: [as_call(call, types) for call in script])
    if seed is None:
        seed = random.SystemRandom().getrandbits(32)
    _check_drawn(oracle, scripts, max_examples, seed, on_example)


def _names(skip: Collection[str]) -> Collection[str]:
    """Take one name for itself, and not for its letters."""
    return (skip,) if isinstance(skip, str) else skip


def _check_drawn(
    oracle: Oracle,
    scripts: st.SearchStrategy[list[Call]],
    max_examples: int,
    seed: int,
    on_example: Callable[[], object] | None,
) -> None:
    found: list[Divergence] = []

    def check(script: list[Call]) -> None:
        # What has diverged once is shrunk with the one carrier that showed it.
        judge = oracle.only(found[-1].carrier) if found else oracle
        divergence = judge.find_divergence([call for call in script if call.name not in oracle.stopped])
        if divergence is not None:
            found.append(divergence)
            raise DivergenceError(divergence)
        if on_example is not None:
            on_example()

    run = hypothesis.seed(seed)(
        hypothesis.settings(
            max_examples=max_examples,
            database=None,
            deadline=None,
            report_multiple_bugs=False,
            print_blob=False,
            suppress_health_check=list(HealthCheck),
            verbosity=hypothesis.Verbosity.quiet,
        )(hypothesis.given(scripts)(check))
    )
    try:
        run()
    except (DivergenceError, Flaky) as error:
        if not found:
            raise
        divergence = error.divergence if isinstance(error, DivergenceError) else found[-1]
    else:
        if oracle.stopped:
            warnings.warn(
                f"not all was checked: {', '.join(sorted(oracle.stopped))} ran for {oracle.timeout} s and was left out from "
                "then on; name exports that don't return in skip (--skip), or allow more time: timeout (--timeout)",
                ReplicateWarning,
                stacklevel=3,
            )
        return
    raise _final(oracle, divergence, f"Drawn with seed={seed}.") from None


def _check_script(oracle: Oracle, script: list[Call]) -> None:
    divergence = oracle.find_divergence(script)
    if divergence is not None:
        raise _final(oracle, _shrunk(oracle, divergence))


def _shrunk(oracle: Oracle, divergence: Divergence) -> Divergence:
    """Leave calls out, in ever smaller groups, as long as what's left still diverges."""
    oracle = oracle.only(divergence.carrier)
    size = max(len(divergence.calls) // 2, 1)
    while True:
        at = 0
        while at < len(divergence.calls):
            shorter = oracle.find_divergence(divergence.calls[:at] + divergence.calls[at + size :])
            if shorter is None:
                at += size
            else:
                divergence = shorter
        if size == 1:
            return divergence
        size //= 2


def _final(oracle: Oracle, divergence: Divergence, *notes: str) -> DivergenceError:
    """Add what helps to find the reason, and the line that repeats the script."""
    calls = ", ".join(map(repr, divergence.calls))
    name = oracle.subject.module.engine.name
    engine = "" if name == "wasmtime" else f", engine={name!r}"
    carriers = f"carriers=[{divergence.carrier!r}], every={divergence.every}"
    again = f"Again: assert_replicable(module, [{calls}], {carriers}{engine})"
    hints = []
    if not attrs.evolve(oracle, every=divergence.every).is_deterministic(divergence.calls):
        hints.append(
            "Two lone instances differ too: the calls aren't deterministic, so this isn't about carrying state. Give imports "
            "that answer the same each time, keep what they remember in guest.state, or pass a function that makes them."
        )
    return DivergenceError(divergence, *hints, again, *notes)


def _check_refusals(subject: Subject) -> None:
    """Check that a foreign or damaged snapshot is refused and changes nothing."""
    with subject.start(HostLog()) as instance:
        snapshot = instance.snapshot()
        before = observe(instance)
        foreign = attrs.evolve(snapshot, module_digest="0" * 64)
        try:
            instance.restore(foreign)
        except SnapshotMismatchError:
            pass
        else:
            raise DivergenceError(_refusal("a snapshot of another module was restored"))
        damaged = bytearray(snapshot.to_bytes())
        damaged[-1] ^= 1
        try:
            Snapshot.from_bytes(bytes(damaged))
        except SnapshotFormatError:
            pass
        else:
            raise DivergenceError(_refusal("a damaged snapshot was read"))
        details = before.differences(observe(instance))
        if details:
            raise DivergenceError(_refusal("a snapshot that was refused left changes", *details))


def _refusal(what: str, *details: str) -> Divergence:
    means = "a snapshot that has to be refused"
    return Divergence(calls=(), outcomes=(), carrier="refusal", means=means, every=1, what=what, details=details)
