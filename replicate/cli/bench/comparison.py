"""Compare two runs of a benchmark: what has changed, and what is noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import attrs

from replicate.cli.bench.results import Result, Series
from replicate.cli.bench.samples import Interval, flat, growth_interval, holm, mann_whitney, percentile
from replicate.errors import ReplicateError

__all__ = ["Change", "Comparison", "Verdict", "compare_results"]

Verdict = Literal["slower", "faster", "no change", "noise"]

_CHANCE = 0.01
"""A change that isn't one is called one in at most this share of comparisons, all series together."""
_FEWEST = 6
"""With fewer samples a side no difference can be told from chance."""
_BUSY = 0.15
"""When other programs took more than this share of the cores in one of the runs, a crowd's times can't be compared."""
_QUICK = 0.25
_LEAST_BYTES = 256 << 10
_SAME_MACHINE = ("cpu", "cores", "kernel", "python")


@attrs.frozen
class Change:
    """Say what became of one series."""

    series: Series
    before: Series
    growth: Interval
    """By how much the median grew."""
    chance: float
    """The probability of such a difference in rank if nothing has changed, corrected for the number of series."""
    verdict: Verdict
    reason: str = ""
    """Why it's called noise, if it is: ``few samples``, ``busy cores``, a ``spread`` too wide to tell, or a machine of
    ``other speed``, which may explain it."""


@attrs.frozen
class Comparison:
    """Hold what two runs of a benchmark say about each other."""

    changes: tuple[Change, ...]
    speed: float
    """How many times as long the plain Python loop took in the second run."""
    warnings: tuple[str, ...]

    @property
    def slower(self) -> tuple[Change, ...]:
        """Give what has got significantly slower, or larger."""
        return tuple(each for each in self.changes if each.verdict == "slower")


def compare_results(old: Result, new: Result, *, least: float) -> Comparison:
    """Compare each series that both have; a change is one if it's at least `least`, 0.1 for 10 %, and no chance.

    Four things must come together: the median has changed by `least` or more, and so has the lower quartile, since what
    other programs do to the machine shows in the slower samples first; the median's 95 % interval (bootstrap) leaves out
    half of `least`; and the samples differ in rank (Mann-Whitney, corrected by Holm for the number of series). If a plain
    Python loop has got slower too, times must have grown by as much more. Raises `ReplicateError` for runs of different
    things.
    """
    _check_comparable(old, new)
    known = {each.key: each for each in old.series}
    pairs = [
        (known[each.key], each)
        for each in new.series
        if each.key in known and each.role != "latency" and each.role == known[each.key].role
    ]
    speed = _quick(new.reference) / _quick(old.reference)
    crowds = {after.group for _, after in pairs if after.role == "crowd"}
    busy = {group for group in crowds if max(old.busy(group), new.busy(group)) > _BUSY}
    chances = holm([mann_whitney(before.samples, after.samples) for before, after in pairs])
    changes = []
    for (before, after), chance in zip(pairs, chances, strict=True):
        passes = _worth_comparing(before), _worth_comparing(after)
        growth, quick = growth_interval(*passes), _quick(flat(passes[1])) / _quick(flat(passes[0]))
        verdict, reason = _judge(
            before, after, growth, quick, chance, after.group in busy, 1.0 if after.unit != "s" else speed, least
        )
        changes.append(Change(after, before, growth, chance, verdict, reason))
    return Comparison(tuple(changes), speed, tuple(_warnings(old, new, busy)))


def _worth_comparing(series: Series) -> list[list[float]]:
    """Give the samples of each pass; sizes below which nobody cares are all one."""
    least = _LEAST_BYTES if series.unit == "bytes" else 0.0
    return [[max(sample, least) for sample in each] for each in series.by_pass]


def _quick(samples: Sequence[float]) -> float:
    return percentile(sorted(samples), _QUICK)


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


def _judge(
    before: Series,
    after: Series,
    growth: Interval,
    quick: float,
    chance: float,
    busy: bool,
    speed: float,
    least: float,
) -> tuple[Verdict, str]:
    if min(len(before.samples), len(after.samples)) < _FEWEST:
        return "noise", "few samples"
    if after.role == "crowd" and busy:
        return "noise", "busy cores"
    if growth.low > 1 / (1 + least) and growth.high < 1 + least:
        return "no change", ""
    slower = min(growth.estimate, quick, growth.low + least / 2) / (1 + least)
    faster = 1 / (max(growth.estimate, quick, growth.high - least / 2) * (1 + least))
    if chance >= _CHANCE or max(slower, faster) < 1:
        return "noise", "spread"
    # A slower machine explains what is slower, a faster one doesn't excuse it.
    if slower >= max(speed, 1.0):
        return "slower", ""
    if faster >= max(1 / speed, 1.0):
        return "faster", ""
    return "noise", "other speed"


def _warnings(old: Result, new: Result, busy: set[str]) -> list[str]:
    found = []
    for name in (*_SAME_MACHINE, "engine"):
        if old.machine.get(name) != new.machine.get(name):
            found.append(f"{name} was {old.machine.get(name)} then and is {new.machine.get(name)} now")
    if old.module != new.module:
        found.append("the module isn't the same: its SHA-256 differs")
    if busy:
        then, now = (max(run.busy(group) for group in busy) for run in (old, new))
        found.append(
            f"while all threads read at once other programs took {then:.0%} of the cores then and {now:.0%} now, so these "
            "times can't be compared"
        )
    keys = {each.key for each in old.series} ^ {each.key for each in new.series}
    if keys:
        found.append(f"{len(keys)} series are in one of the runs only")
    return found
