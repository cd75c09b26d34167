"""The proof for a backend: random modules by the hundred, each from a seed of its own."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

import attrs

from replicate.errors import ReplicateError
from replicate.interfaces import Engine
from replicate.registry import load_engine
from replicate.testing.carriers import Carrier
from replicate.testing.features import Feature, features_of
from replicate.testing.oracle import Divergence, DivergenceError, Oracle
from replicate.testing.random_calls import Call, generate_calls
from replicate.testing.random_modules import GeneratedModule, generate
from replicate.testing.subject import Subject

__all__ = ["assert_engine_replicates"]


@attrs.frozen(eq=False)
class _Trial:
    """Know how to try one module with one script."""

    engine: Engine
    features: Feature
    carriers: Sequence[str | type[Carrier]] | None
    carrier_engine: str | None
    every: int
    only: str | None = None

    def diverges(self, module: GeneratedModule, script: Sequence[Call]) -> Divergence | None:
        subject = Subject.of(module.wasm, imports=module.imports, engine=self.engine)
        known = subject.function_types()
        oracle = Oracle.of(subject, carriers=self.carriers, carrier_engine=self.carrier_engine, every=self.every)
        if self.only is not None:
            oracle = oracle.only(self.only)
        fitting = [call for call in script if call.name in known and len(call.args) == len(known[call.name].params)]
        return oracle.find_divergence(fitting)


def assert_engine_replicates(
    engine: str | Engine = "wasmtime",
    *,
    modules: int = 100,
    seed: int = 0,
    features: Feature | None = None,
    calls: int = 40,
    carriers: Sequence[str | type[Carrier]] | None = None,
    carrier_engine: str | None = None,
    shrink_seconds: float = 60.0,
    on_example: Callable[[], object] | None = None,
) -> None:
    """Check that an engine carries random modules bit for bit: `calls` calls, a snapshot, and as many calls again.

    Calls that look at all there is follow the snapshot, and come last.

    ::

        def test_random_modules_are_replicable() -> None:
            assert_engine_replicates("mine")

    The modules come from the seeds `seed` to ``seed + modules - 1``, so that two runs try the same. `features` are what they
    may use, by default what the engine's traits claim. `carriers` and `carrier_engine` are as in `assert_replicable`; left
    out, each module goes through one of the two kinds of pools. Takes some 0.2 s a module, and up to `shrink_seconds` more
    where one diverges. `on_example` is called after each module that agreed.

    Raises `DivergenceError`, whose message has the module's text, made shorter if that could be done in time.
    """
    runtime = load_engine(engine) if isinstance(engine, str) else engine
    allowed = features_of(runtime.traits) if features is None else features
    for number in range(seed, seed + modules):
        chosen = carriers
        if chosen is None:
            pool = ("pool", "pool-copy")[number % 2]
            chosen = ["same", "used", "fresh", "bytes", pool, *(["engine"] if carrier_engine is not None else [])]
        trial = _Trial(runtime, allowed, chosen, carrier_engine, calls)
        module = generate(number, features=allowed)
        rng = random.Random(-1 - number)
        subject = Subject.of(module.wasm, imports=module.imports, engine=runtime)
        before, after = (generate_calls(rng, subject.module.info, calls) for _ in range(2))
        script = [*before, *module.observers, *after, *module.observers]
        divergence = trial.diverges(module, script)
        if divergence is not None:
            shorter, module = _shrink(trial, divergence, module, time.monotonic() + shrink_seconds)
            raise DivergenceError(
                shorter,
                f"Seed {number}: assert_engine_replicates({runtime.name!r}, modules=1, seed={number}, calls={calls})",
                f"The module, as far as it could be shortened, and its script: {list(shorter.calls)!r}",
                module.wat,
            )
        if on_example is not None:
            on_example()


def _shrink(
    trial: _Trial, divergence: Divergence, module: GeneratedModule, until: float
) -> tuple[Divergence, GeneratedModule]:
    """Leave out calls, carriers and choices as long as something still diverges and time is left."""
    trial = attrs.evolve(trial, only=divergence.carrier)
    script = list(divergence.calls)

    def attempt(choices: Sequence[int], calls: Sequence[Call]) -> bool:
        nonlocal divergence, module, script
        try:
            made = generate(choices, features=trial.features)
            found = trial.diverges(made, calls)
        except ReplicateError:
            return False
        if found is None:
            return False
        divergence, module, script = found, made, list(calls)
        return True

    for every in (1, trial.every):
        trial = attrs.evolve(trial, every=every)
        if attempt(module.choices, script):
            break
    size = max(len(script), len(module.choices)) // 2
    while size and time.monotonic() < until:
        at = 0
        while at < len(script) and time.monotonic() < until:
            if not attempt(module.choices, script[:at] + script[at + size :]):
                at += size
        at = 0
        while at < len(module.choices) and time.monotonic() < until:
            old = module.choices
            simpler = [old[:at] + old[at + size :], old[:at] + (0,) * len(old[at : at + size]) + old[at + size :]]
            if not any(choices != old and attempt(choices, script) for choices in simpler):
                at += size
        size //= 2
    return divergence, module
