"""Draw a chart as SVG, by hand: a few lines, axes and labels need no library."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from replicate.cli.bench.charts import Chart, Line

__all__ = ["COLOURS", "picture_of", "svg_of"]

_WIDTH, _HEIGHT = 720, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 40, 16, 56
COLOURS = ("#0b6bcb", "#c2410c", "#3f7d20", "#7c3aed", "#6b7280")
"""Told apart also by those who see no red or no green; each line has its own dashes besides."""
_DASHES = ("", "7 4", "2 4", "10 4 2 4", "4 4")
_HEAD, _ROW = 40, 20
# A picture of its own brings its paper with it: it's shown on any page, dark or light.
_STYLE = """
rect { fill: #ffffff; } text { fill: #57606a; font: 12px system-ui, sans-serif; } .label { fill: #1b1f24; }
.title { fill: #1b1f24; font-size: 15px; font-weight: 600; } .grid { stroke: #d8dee4; } .axis, .tick { stroke: #57606a; }
"""


def svg_of(chart: Chart) -> str:
    """Give the chart as an ``<svg>`` element that needs nothing from outside."""
    body = "\n".join(_parts(chart))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(chart.title)}">\n{body}\n</svg>'
    )


def picture_of(chart: Chart) -> str:
    """Give the chart as an SVG file of its own: with its title, a legend, and how it looks."""
    height = _HEAD + _HEIGHT + _ROW * (len(chart.lines) + 1)
    legend = "\n".join(
        f'<line x1="{_LEFT}" x2="{_LEFT + 28}" y1="{y - 4}" y2="{y - 4}" stroke="{colour}" stroke-width="2" '
        f'stroke-dasharray="{dashes}"/>\n<text class="label" x="{_LEFT + 38}" y="{y}">{escape(line.name)}</text>'
        for line, y, colour, dashes in (
            (line, _HEAD + _HEIGHT + _ROW * (number + 1), *_looks(number)) for number, line in enumerate(chart.lines)
        )
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{escape(chart.title)}">\n<style>{_STYLE}</style>\n<rect width="100%" height="100%"/>\n'
        f'<text class="title" x="{_LEFT}" y="26">{escape(chart.title)}</text>\n<g transform="translate(0 {_HEAD})">\n'
        + "\n".join(_parts(chart))
        + f"\n</g>\n{legend}\n</svg>\n"
    )


def _looks(number: int) -> tuple[str, str]:
    """Give the colour and the dashes of a chart's line."""
    return COLOURS[number % len(COLOURS)], _DASHES[number % len(_DASHES)]


def _x(chart: Chart, value: float) -> float:
    return round(_LEFT + chart.x_scale.at(value) * (_WIDTH - _LEFT - _RIGHT), 1)


def _y(chart: Chart, value: float) -> float:
    return round(_HEIGHT - _BOTTOM - chart.y_scale.at(value) * (_HEIGHT - _TOP - _BOTTOM), 1)


def _parts(chart: Chart) -> Iterator[str]:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    for value in chart.y_scale.ticks():
        y = _y(chart, value)
        yield f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y}" y2="{y}"/>'
        yield f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{escape(chart.y_text(value))}</text>'
    for value in sorted({point.x for line in chart.lines for point in line.points}):
        x = _x(chart, value)
        name = chart.x_names[round(value)] if chart.x_names else chart.x_text(value)
        yield f'<line class="tick" x1="{x}" x2="{x}" y1="{bottom}" y2="{bottom + 5}"/>'
        yield f'<text x="{x}" y="{bottom + 20}" text-anchor="middle">{escape(name)}</text>'
    yield f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>'
    middle = (_LEFT + right) / 2
    yield f'<text class="label" x="{middle}" y="{_HEIGHT - 10}" text-anchor="middle">{escape(chart.x_label)}</text>'
    centre = (_TOP + bottom) / 2
    yield (
        f'<text class="label" transform="translate(14 {centre}) rotate(-90)" text-anchor="middle">'
        f"{escape(chart.y_label)}</text>"
    )
    for number, line in enumerate(chart.lines):
        yield from _line(chart, line, *_looks(number))


def _line(chart: Chart, line: Line, colour: str, dashes: str) -> Iterator[str]:
    places = [(_x(chart, point.x), _y(chart, point.y)) for point in line.points]
    path = " ".join(f"{x},{y}" for x, y in places)
    yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"/>'
    for point, (x, y) in zip(line.points, places, strict=True):
        if point.low != point.high:
            ends = f'y1="{_y(chart, point.low)}" y2="{_y(chart, point.high)}"'
            yield f'<line x1="{x}" x2="{x}" {ends} stroke="{colour}" stroke-width="5" opacity="0.3"/>'
        said = f"{line.name}: {chart.y_text(point.y)}"
        if point.low != point.high:
            said += f" ({chart.y_text(point.low)} to {chart.y_text(point.high)})"
        yield f'<circle cx="{x}" cy="{y}" r="4" fill="{colour}"><title>{escape(said)}</title></circle>'
