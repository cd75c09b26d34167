"""Which pictures a result makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from replicate.cli.bench.charts import Chart, Line, Point, bytes_text, ratio_text, seconds_text
from replicate.cli.bench.results import Result, Series
from replicate.cli.bench.samples import percentile, summarise

__all__ = ["charts_of", "locked_of", "speed_up"]

_SHARES = (("half", 0.5), ("90 %", 0.9), ("99 %", 0.99), ("99.9 %", 0.999), ("all", 1.0))


def charts_of(result: Result) -> dict[str, Chart]:
    """Give the charts that its experiments can be drawn as, by the names of their groups."""
    found: dict[str, Chart] = {}
    for group, title in result.groups.items():
        series = result.in_group(group)
        draw = _DRAWN.get(group) or (_scaling if any(each.role == "crowd" for each in series) else None)
        if draw is not None:
            found[group] = draw(title, series)
    return found


def locked_of(series: Sequence[Series]) -> Series | None:
    """Give the series that the others of a crowd's experiment are compared with: one guest behind a lock."""
    return next((each for each in series if each.role == "crowd" and each.curve.endswith("lock")), None)


def speed_up(locked: Series, other: Series) -> list[float]:
    """Give how many times faster than one locked guest, round by round."""
    return [one / two for one, two in zip(locked.samples, other.samples, strict=True)]


def _point(x: float, samples: Sequence[float]) -> Point:
    found = summarise(samples)
    return Point(x, found.median, found.low, found.high)


def _lines(series: Sequence[Series], samples_of: Callable[[Series], Sequence[float]] | None = None) -> tuple[Line, ...]:
    curves: dict[str, list[Point]] = {}
    for each in series:
        if each.x is not None:
            samples = each.samples if samples_of is None else samples_of(each)
            curves.setdefault(each.curve, []).append(_point(each.x, samples))
    return tuple(Line(name, tuple(sorted(points, key=lambda point: point.x))) for name, points in curves.items())


def _count(x: float) -> str:
    return f"{x:g}"


def _scaling(title: str, series: Sequence[Series]) -> Chart:
    locked = locked_of(series)
    assert locked is not None
    pools = _lines([each for each in series if each is not locked], lambda each: speed_up(locked, each))
    widest = [point.x for line in pools for point in line.points]
    level = [Point(x, 1.0, 1.0, 1.0) for x in (min(widest), max(widest))]
    return Chart(
        title=title,
        text="How many times faster than one guest behind a lock, by replicas: medians and quartiles of the rounds.",
        x_label="replicas",
        y_label="times as fast",
        lines=(*pools, Line(locked.curve, tuple(level))),
        x_text=_count,
        y_text=ratio_text,
        x_log=True,
    )


def _commit_pages(title: str, series: Sequence[Series]) -> Chart:
    return Chart(
        title=title,
        text="The cost of a commit follows the pages written with copy-on-write, and the whole guest with plain copies.",
        x_label="pages of 4 KiB written",
        y_label="time",
        lines=_lines(series),
        x_text=_count,
        y_text=seconds_text,
        x_log=True,
        y_log=True,
    )


def _by_size(text: str) -> Callable[[str, Sequence[Series]], Chart]:
    def draw(title: str, series: Sequence[Series]) -> Chart:
        sized = [each for each in series if each.x]
        return Chart(
            title=title,
            text=text,
            x_label="guest's memory",
            y_label="time",
            lines=_lines(sized or series),
            x_text=bytes_text,
            y_text=seconds_text,
            x_log=bool(sized),
            y_log=True,
        )

    return draw


def _latency(title: str, series: Sequence[Series]) -> Chart:
    lines = []
    for each in series:
        ordered = sorted(each.samples)
        values = [percentile(ordered, share) for _, share in _SHARES]
        lines.append(Line(each.curve, tuple(Point(x, y, y, y) for x, y in enumerate(values))))
    return Chart(
        title=title,
        text="How long so many of the reads took at most; the writer beside them writes without a rest.",
        x_label="share of the reads",
        y_label="time",
        lines=tuple(lines),
        x_text=_count,
        y_text=seconds_text,
        y_log=True,
        x_names=tuple(name for name, _ in _SHARES),
    )


def _memory(title: str, series: Sequence[Series]) -> Chart:
    return Chart(
        title=title,
        text="What this process's proportional set size grows by when such a pool is opened.",
        x_label="replicas",
        y_label="memory",
        lines=_lines(series),
        x_text=_count,
        y_text=bytes_text,
        y_bytes=True,
    )


_DRAWN: dict[str, Callable[[str, Sequence[Series]], Chart]] = {
    "commit pages": _commit_pages,
    "commit size": _by_size("With copy-on-write a commit costs what it changed, however large the guest is."),
    "spawn": _by_size("With copy-on-write a new replica is an instance and one mapping."),
    "latency": _latency,
    "memory": _memory,
}
