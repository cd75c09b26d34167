"""Rewriting is invisible: modules do under the bare runtime what they do instrumented, under our engine."""

from __future__ import annotations

import random

import pytest

from replicate.testing import Feature, Subject, generate
from replicate.testing.outcomes import HostLog, perform
from replicate.testing.random_calls import generate_calls

from .bare import BareGuest, runs_bare

# References look different through the runtime's own binding.
FEATURES = Feature.ALL & ~Feature.REFERENCE_VALUES
SIZES = [pytest.param(range(60), id="some"), pytest.param(range(1000, 2000), id="many", marks=pytest.mark.nightly)]


@pytest.mark.parametrize("seeds", SIZES)
def test_results_traps_and_host_calls_are_those_of_the_bare_module(seeds: range) -> None:
    tried = 0
    for seed in seeds:
        module = generate(seed, features=FEATURES)
        subject = Subject.of(module.wasm, imports=module.imports, max_growth=None)
        info = subject.module.info
        if not runs_bare(info):
            continue
        bare_log, log = HostLog(), HostLog()
        bare = BareGuest(module, info, bare_log)
        script = [*generate_calls(random.Random(seed), info, 80), *module.observers]
        with subject.module.instantiate(log.wrap(module.imports(), info)) as ours:
            assert bare_log.take() == log.take(), f"the start function of module {seed}"
            for call in script:
                if bare.takes_integers(call.name):
                    expected = perform(bare, call, bare_log)
                    assert expected == perform(ours, call, log), f"{call} of module {seed}"
                    tried += 1
    assert tried > 40 * len(seeds)
