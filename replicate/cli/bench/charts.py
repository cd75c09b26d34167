"""Charts as values: what `svg` and `plots` draw."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import attrs

from replicate.cli.terminal import size_of

__all__ = ["Chart", "Line", "Point", "Scale", "bytes_text", "ratio_text", "seconds_text"]


@attrs.frozen
class Point:
    """Be a median at `x`, and the quartiles around it."""

    x: float
    y: float
    low: float
    high: float


@attrs.frozen
class Line:
    """Connect points that belong together."""

    name: str
    points: tuple[Point, ...]


@attrs.frozen(kw_only=True)
class Chart:
    """Hold lines and what they mean. With `x_names`, `x` counts names: 0 is the first."""

    title: str
    text: str
    """What it shows, in a sentence or two."""
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    x_text: Callable[[float], str]
    y_text: Callable[[float], str]
    x_log: bool = False
    y_log: bool = False
    x_names: tuple[str, ...] = ()
    y_bytes: bool = False
    """Mark the upright axis at round numbers of KiB and MiB."""

    @property
    def x_scale(self) -> Scale:
        """Give how far right an `x` lies."""
        return Scale.over([point.x for line in self.lines for point in line.points], log=self.x_log, zero=False)

    @property
    def y_scale(self) -> Scale:
        """Give how far up a `y` lies; without logarithms the axis begins at zero."""
        values = [value for line in self.lines for point in line.points for value in (point.y, point.low, point.high)]
        return attrs.evolve(Scale.over(values, log=self.y_log, zero=True), binary=self.y_bytes)


@attrs.frozen
class Scale:
    """Map values to 0..1."""

    low: float
    high: float
    log: bool
    binary: bool = False

    @classmethod
    def over(cls, values: Sequence[float], *, log: bool, zero: bool) -> Scale:
        """Give a scale on which all values lie."""
        if log:
            positive = [value for value in values if value > 0] or [1.0]
            low, high = min(positive), max(positive)
            return cls(low / 1.2, high * 1.2, True) if zero else cls(low, max(high, low * 2), True)
        low, high = (0.0 if zero else min(values)), max(values)
        return cls(low, high * 1.05 if zero and high else max(high, low + 1), False)

    def at(self, value: float) -> float:
        """Give where a value lies."""
        if self.log:
            return math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Give round values to mark: 1, 2, 5 and so on."""
        if self.log:
            lowest, highest = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            steps = (1, 2, 5) if highest - lowest <= 3 else (1,)
            marks = [step * 10.0**power for power in range(lowest, highest + 1) for step in steps]
        else:
            rough = (self.high - self.low) / 5
            if self.binary:
                step = 2.0 ** math.ceil(math.log2(rough))
            else:
                power = 10 ** math.floor(math.log10(rough))
                step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
            first = math.ceil(self.low / step)
            marks = [number * step for number in range(first, math.floor(self.high / step) + 1)]
        return [mark for mark in marks if self.low <= mark <= self.high]


def seconds_text(seconds: float) -> str:
    """Spell a time: ``850 ns``, ``7.7 us``, ``1.24 ms``, ``2.5 s``."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * factor >= 0.9995:
            return f"{_three(seconds * factor)} {unit}"
    return f"{_three(seconds * 1e9)} ns"


def _three(value: float) -> str:
    return f"{value:.0f}" if value >= 99.95 else f"{value:.3g}"


def bytes_text(size: float) -> str:
    """Spell a size."""
    return size_of(round(size)) if size >= 1 else "0"


def ratio_text(ratio: float) -> str:
    """Spell how many times as much."""
    return f"{ratio:.3g}x"
