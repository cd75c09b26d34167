"""Sum samples up, and tell whether two sets of them differ by more than chance."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence

import attrs

__all__ = ["Interval", "Summary", "flat", "growth_interval", "holm", "mann_whitney", "percentile", "summarise"]

_RESAMPLES = 1000


@attrs.frozen
class Summary:
    """Hold the median and the quartiles of samples: half of them lie between `low` and `high`."""

    median: float
    low: float
    high: float


@attrs.frozen
class Interval:
    """Hold an estimate and the bounds between which it lies with 95 % confidence."""

    estimate: float
    low: float
    high: float


def percentile(ordered: Sequence[float], share: float) -> float:
    """Give the value below which `share` (0 to 1) of the sorted samples lie, between two samples by proportion."""
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def summarise(samples: Sequence[float]) -> Summary:
    """Give the median and the quartiles."""
    ordered = sorted(samples)
    return Summary(percentile(ordered, 0.5), percentile(ordered, 0.25), percentile(ordered, 0.75))


def mann_whitney(one: Sequence[float], other: Sequence[float]) -> float:
    """Give the probability that two sets of samples from one distribution differ in rank as much as these, or more.

    The two-sided Mann-Whitney U test, by the normal approximation with ties and continuity corrected; good from some eight
    samples a side on. It asks nothing of the distribution's shape, and one wild sample counts as one.
    """
    merged = sorted([(value, 0) for value in one] + [(value, 1) for value in other])
    count, ranks, ties, position = len(merged), 0.0, 0.0, 0
    while position < count:
        end = position
        while end < count and merged[end][0] == merged[position][0]:
            end += 1
        rank = (position + 1 + end) / 2
        ranks += rank * sum(side == 0 for _, side in merged[position:end])
        ties += (end - position) ** 3 - (end - position)
        position = end
    first, second = len(one), len(other)
    distance = abs(ranks - first * (first + 1) / 2 - first * second / 2) - 0.5
    variance = first * second / 12 * (count + 1 - ties / (count * (count - 1)))
    if variance <= 0 or distance <= 0:
        return 1.0
    return math.erfc(distance / math.sqrt(2 * variance))


def growth_interval(before: Sequence[Sequence[float]], after: Sequence[Sequence[float]], *, seed: int = 0) -> Interval:
    """Estimate by how much the median has grown, as a ratio, and its interval.

    Samples come in passes, which are alike inside: something else ran on the machine, or memory lay elsewhere. So the
    bootstrap draws passes first, and samples within them then: all of them from one pot would promise too narrow an
    interval. `seed` makes the answer the same each time.
    """
    draw = random.Random(seed)
    ratios = sorted(
        statistics.median(_resampled(after, draw)) / statistics.median(_resampled(before, draw))
        for _ in range(_RESAMPLES)
    )
    estimate = statistics.median(flat(after)) / statistics.median(flat(before))
    return Interval(estimate, percentile(ratios, 0.025), percentile(ratios, 0.975))


def flat(passes: Sequence[Sequence[float]]) -> list[float]:
    """Give the samples of all passes."""
    return [sample for each in passes for sample in each]


def _resampled(passes: Sequence[Sequence[float]], draw: random.Random) -> list[float]:
    return flat([draw.choices(chosen, k=len(chosen)) for chosen in draw.choices(passes, k=len(passes))])


def holm(probabilities: Sequence[float]) -> list[float]:
    """Correct probabilities for having asked that often, by Holm's method: of a hundred tests one is below 0.01 anyway."""
    order = sorted(range(len(probabilities)), key=probabilities.__getitem__)
    corrected, highest = [0.0] * len(order), 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, probabilities[index] * (len(order) - place)))
        corrected[index] = highest
    return corrected
