"""Measure variants against each other, in turns, in one process.

Every round takes one sample of each variant, so that whatever else the machine does hits them all; each second round goes
through them backwards. A sample of a call is the best of some short batches: shorter than the time for which a busy system
takes a core away, so that one of them is likely to have had it whole. A round without record warms everything up, and
rounds that other programs disturbed are repeated.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence

import attrs

from replicate.cli.bench.crowd import Crowd
from replicate.cli.bench.machine import Others, spin
from replicate.cli.bench.results import Role, Series, Unit

__all__ = ["DEFAULT_PACE", "CrowdSamples", "Measured", "Pace", "Sampler", "Variant", "clock", "run_rounds", "timed"]

Sampler = Callable[[], Sequence[float]]
clock = time.perf_counter
_SPINS = 20_000
_MOST_CALLS = 100_000
_TOO_MUCH = 0.1
_PAUSE_SECONDS = 0.2
"""Who disturbed a round may have done by then."""


@attrs.frozen
class Pace:
    """Say how long to measure: rounds, and what a sample takes at least."""

    rounds: int = 20
    passes: int = 4
    """The rounds are shared out among so many passes; each opens its pools anew and does all experiments."""
    batch_seconds: float = 0.002
    batches: int = 5
    crowd_seconds: float = 0.2
    slice_seconds: float = 0.1
    """How long reads are watched for, in each round, where every one counts."""
    spins: int = 1_000_000
    """The work by which the real number of cores is measured."""

    @property
    def rounds_of_a_pass(self) -> int:
        """Give how many rounds each pass has."""
        return -(-self.rounds // self.all_passes)

    @property
    def all_passes(self) -> int:
        """Give how many passes there are: no more than rounds."""
        return min(self.passes, self.rounds)


DEFAULT_PACE = Pace()


@attrs.frozen(kw_only=True)
class Variant:
    """Be one thing to measure; see `Series`. `sample` takes one sample, or several."""

    group: str
    name: str
    curve: str
    sample: Sampler
    x: float | None = None
    role: Role = "call"
    unit: Unit = "s"


def timed(act: Callable[[], object], pace: Pace) -> Sampler:
    """Give what takes a sample of a call: its seconds, in the best of the batches."""
    calls = 0

    def batch(count: int) -> float:
        began = clock()
        for _ in range(count):
            act()
        return clock() - began

    def sample() -> Sequence[float]:
        nonlocal calls
        if not calls:
            calls, took = 1, batch(1)
            while took < pace.batch_seconds and calls < _MOST_CALLS:
                # The first calls are the slowest: grow by steps.
                calls = min(_MOST_CALLS, max(calls + 1, min(calls * 8, round(calls * pace.batch_seconds / took))))
                took = batch(calls)
        return (min(batch(calls) for _ in range(pace.batches)) / calls,)

    return sample


class CrowdSamples:
    """Make what takes samples of a crowd: the seconds until every thread has done something once, on average of some times.

    Each variant of an experiment does it as often as the first one needs to take long enough.
    """

    def __init__(self, crowd: Crowd, pace: Pace) -> None:
        self._crowd = crowd
        self._pace = pace
        self._times = 0

    def of(self, act: Callable[[], object]) -> Sampler:
        """Give what takes a sample of this."""

        def sample() -> Sequence[float]:
            if not self._times:
                self._crowd.seconds(act, 1)
                once = max(self._crowd.seconds(act, 1), 1e-6)
                self._times = max(1, round(self._pace.crowd_seconds / once))
            return (self._crowd.seconds(act, self._times),)

        return sample


@attrs.frozen
class Measured:
    """Hold what some rounds gave: each variant's samples, and for each round the seconds of a plain Python loop and the
    share of the cores that other programs took; and how many more rounds were thrown away, since others took too much."""

    series: tuple[Series, ...]
    reference: tuple[float, ...]
    others: tuple[float, ...]
    repeated: int


def run_rounds(variants: Sequence[Variant], *, rounds: int, on_round: Callable[[], object]) -> Measured:
    """Measure all variants in interleaved rounds.

    A round in which other programs took much of the cores is repeated, but no more than as many rounds again.
    """
    samples: list[list[float]] = [[] for _ in variants]
    reference: list[float] = []
    shares: list[float] = []
    repeated = 0
    for variant in variants:
        variant.sample()
    on_round()
    gc.collect()
    gc.disable()
    try:
        while len(shares) < rounds:
            others, loop = Others(), min(spin(_SPINS) for _ in range(5))
            order = range(len(variants)) if len(shares) % 2 == 0 else range(len(variants) - 1, -1, -1)
            taken = {position: variants[position].sample() for position in order}
            share = others.share()
            if share > _TOO_MUCH and repeated < rounds:
                repeated += 1
                time.sleep(_PAUSE_SECONDS)
                continue
            for position, some in taken.items():
                samples[position] += some
            reference.append(loop)
            shares.append(share)
            on_round()
    finally:
        gc.enable()
    series = tuple(
        Series(
            group=each.group,
            name=each.name,
            curve=each.curve,
            x=each.x,
            role=each.role,
            unit=each.unit,
            samples=tuple(found),
        )
        for each, found in zip(variants, samples, strict=True)
    )
    return Measured(series, tuple(reference), tuple(shares), repeated)
