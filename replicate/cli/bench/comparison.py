"""Compare two runs of a benchmark: what has changed, and what is noise."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Literal

import attrs

from replicate.cli.bench.results import Result, Series
from replicate.cli.bench.samples import Interval, holm, mann_whitney, ratio_interval
from replicate.errors import ReplicateError

__all__ = ["Change", "Comparison", "Verdict", "compare_results"]

Verdict = Literal["slower", "faster", "no change", "noise"]

_CHANCE = 0.01
"""A change that isn't one is called one in at most this share of comparisons, all series together."""
_FEWEST = 6
"""With fewer samples a side no difference can be told from chance."""
_SAME_CORES = 0.15
"""When the cores that the machine really gave differ by more than this share, what takes several of them can't be compared."""
_SAME_MACHINE = ("cpu", "cores", "kernel", "python")


@attrs.frozen
class Change:
    """Say what became of one series: by how much its median grew, allowing for the machine's own speed."""

    series: Series
    before: Series
    growth: Interval
    chance: float
    """The probability of such a difference in rank if nothing has changed, corrected for the number of series."""
    verdict: Verdict
    reason: str = ""
    """Why it's called noise, if it is."""


@attrs.frozen
class Comparison:
    """Hold what two runs of a benchmark say about each other."""

    changes: tuple[Change, ...]
    speed: float
    """How many times as long the plain Python loop took in the second run; times are divided by it."""
    warnings: tuple[str, ...]

    @property
    def slower(self) -> tuple[Change, ...]:
        """Give what has got significantly slower, or larger."""
        return tuple(each for each in self.changes if each.verdict == "slower")


def compare_results(old: Result, new: Result, *, least: float) -> Comparison:
    """Compare each series that both have; a change is one if it's at least `least`, 0.1 for 10 %, and no chance.

    Three things must come together: the median has changed by `least` or more, the 99 % interval of that change (block
    bootstrap) leaves out half of it, and the samples differ in rank (Mann-Whitney, corrected by Holm for the number of
    series). Times are first divided by those of a plain Python loop of the same run. Raises `ReplicateError` for runs of
    different things.
    """
    _check_comparable(old, new)
    known = {each.key: each for each in old.series}
    pairs = [
        (known[each.key], each)
        for each in new.series
        if each.key in known and each.role != "latency" and each.role == known[each.key].role
    ]
    speed = statistics.median(new.reference) / statistics.median(old.reference)
    cores = statistics.median(new.cores) / statistics.median(old.cores)
    scaled = [_scaled(after, 1.0 if after.role == "memory" else speed) for _, after in pairs]
    chances = holm([mann_whitney(before.samples, samples) for (before, _), samples in zip(pairs, scaled, strict=True)])
    changes = []
    for (before, after), samples, chance in zip(pairs, scaled, chances, strict=True):
        growth = ratio_interval(before.samples, samples)
        verdict, reason = _judge(before, after, growth, chance, cores, least)
        changes.append(Change(after, before, growth, chance, verdict, reason))
    return Comparison(tuple(changes), speed, tuple(_warnings(old, new, cores)))


def _check_comparable(old: Result, new: Result) -> None:
    for what, one, other in (
        ("benchmark", {"benchmark": old.benchmark}, {"benchmark": new.benchmark}),
        ("subject", old.subject, new.subject),
        ("setting", old.settings, new.settings),
    ):
        for name in {**one, **other}:
            if one.get(name) != other.get(name):
                raise ReplicateError(
                    f"these runs can't be compared: the {what} {name!r} was {one.get(name)!r} then and is "
                    f"{other.get(name)!r} now"
                    if name != what
                    else f"these runs can't be compared: they're of different benchmarks, {one[name]!r} and {other[name]!r}"
                )


def _scaled(series: Series, speed: float) -> Sequence[float]:
    return [sample / speed for sample in series.samples]


def _judge(
    before: Series, after: Series, growth: Interval, chance: float, cores: float, least: float
) -> tuple[Verdict, str]:
    if min(len(before.samples), len(after.samples)) < _FEWEST:
        return "noise", f"fewer than {_FEWEST} samples: take more rounds"
    if after.role == "crowd" and abs(cores - 1) > _SAME_CORES:
        return "noise", "the machine gave other programs more of its cores in one of the runs"
    if chance < _CHANCE:
        if growth.estimate >= 1 + least and growth.low > 1 + least / 2:
            return "slower", ""
        if growth.estimate <= 1 / (1 + least) and growth.high < 1 / (1 + least / 2):
            return "faster", ""
    if growth.low > 1 / (1 + least) and growth.high < 1 + least:
        return "no change", ""
    return "noise", "the samples spread too much to tell"


def _warnings(old: Result, new: Result, cores: float) -> list[str]:
    found = []
    for name in (*_SAME_MACHINE, "engine"):
        if old.machine.get(name) != new.machine.get(name):
            found.append(f"{name} was {old.machine.get(name)} then and is {new.machine.get(name)} now")
    if old.module != new.module:
        found.append("the module isn't the same: its SHA-256 differs")
    if abs(cores - 1) > _SAME_CORES:
        found.append(
            f"the cores really gave {statistics.median(old.cores):.2f} cores' worth of work then and give "
            f"{statistics.median(new.cores):.2f} now: what needs several of them can't be compared"
        )
    keys = {each.key for each in old.series} ^ {each.key for each in new.series}
    if keys:
        found.append(f"{len(keys)} series are in one of the runs only")
    return found
