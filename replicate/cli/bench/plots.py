"""Draw charts with characters."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from replicate.cli.bench.charts import Chart

__all__ = ["bars", "curves"]

_ROWS, _COLUMNS = 12, 60
_MARKS = "ox+*#"
_BAR = 40


def curves(chart: Chart) -> Iterator[str]:
    """Draw the lines in a field of characters, each with a mark of its own; nothing in it is beyond ASCII."""
    field = [[" "] * _COLUMNS for _ in range(_ROWS)]
    for number, line in reversed(list(enumerate(chart.lines))):
        mark = _MARKS[number % len(_MARKS)]
        places = [(chart.x_scale.at(point.x), chart.y_scale.at(point.y)) for point in line.points]
        for (x1, y1), (x2, y2) in itertools.pairwise(places):
            for step in range(_COLUMNS):
                share = step / _COLUMNS
                row, column = _cell(x1 + (x2 - x1) * share, y1 + (y2 - y1) * share)
                if field[row][column] == " ":
                    field[row][column] = "."
        for x, y in places:
            row, column = _cell(x, y)
            field[row][column] = mark
    marks = {_cell(0, chart.y_scale.at(value))[0]: chart.y_text(value) for value in reversed(chart.y_scale.ticks())}
    for row in range(_ROWS):
        yield f"{marks.get(row, ''):>10} |{''.join(field[row]).rstrip()}"
    yield f"{'':10} +{'-' * _COLUMNS}"
    yield f"{'':12}{_under(chart)}"
    yield f"{'':12}{chart.x_label}"
    for number, line in enumerate(chart.lines):
        yield f"{'':12}{_MARKS[number % len(_MARKS)]}  {line.name}"


def _cell(x: float, y: float) -> tuple[int, int]:
    return _ROWS - 1 - round(min(max(y, 0), 1) * (_ROWS - 1)), round(min(max(x, 0), 1) * (_COLUMNS - 1))


def _under(chart: Chart) -> str:
    """Write the values of x below where they lie, those that have room."""
    text = ""
    for value in sorted({point.x for line in chart.lines for point in line.points}):
        name = chart.x_names[round(value)] if chart.x_names else chart.x_text(value)
        at = max(0, _cell(chart.x_scale.at(value), 0)[1] - len(name) // 2)
        if not text or at > len(text):
            text = text.ljust(at) + name
    return text


def bars(chart: Chart, character: str) -> Iterator[tuple[str, str, str]]:
    """Give a name, a bar and a figure for each point."""
    scale = chart.y_scale
    for line in chart.lines:
        for point in line.points:
            x = chart.x_names[round(point.x)] if chart.x_names else chart.x_text(point.x)
            length = max(1, round(scale.at(point.y) * _BAR))
            yield f"{line.name}, {x}", character * length, chart.y_text(point.y)
