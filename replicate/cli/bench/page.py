"""Write a result as one HTML file that needs nothing from outside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path

from replicate.cli.bench.charts import Chart
from replicate.cli.bench.comparison import Comparison
from replicate.cli.bench.pictures import charts_of
from replicate.cli.bench.results import Result
from replicate.cli.bench.svg import COLOURS, picture_of, svg_of
from replicate.cli.bench.tables import TableOf, comparison_table, facts_of, headline_of, tables_of, title_of, verdict_of
from replicate.errors import ReplicateError
from replicate.outfiles import write_whole

__all__ = ["page_of", "save_page", "save_pictures"]

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --dim: #57606a; --paper: #ffffff; --rule: #d8dee4; --raised: #f6f8fa; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --dim: #9aa4af; --paper: #0d1117; --rule: #30363d; --raised: #161b22; }
}
body { margin: 2.5rem auto; max-width: 60rem; padding: 0 1.25rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2.5rem 0 .25rem; }
p { margin: .25rem 0 .75rem; color: var(--dim); } .headline { color: var(--ink); font-size: 1.15rem; }
svg { width: 100%; height: auto; } svg text { fill: var(--dim); font: 12px system-ui, sans-serif; }
svg .label { fill: var(--ink); } svg .grid { stroke: var(--rule); } svg .axis, svg .tick { stroke: var(--dim); }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; padding: 0; list-style: none; font-size: .875rem; }
.legend i { display: inline-block; width: .75rem; height: .75rem; border-radius: 50%; margin-right: .4rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
th { color: var(--dim); font-weight: 500; } .right { text-align: right; } .slower { color: #cf222e; font-weight: 600; }
"""


def save_page(result: Result, comparison: Comparison | None, path: Path) -> None:
    """Write the page; raise `ReplicateError` if it can't be written."""
    write_whole(path, page_of(result, comparison).encode(), what="the report", error=ReplicateError)


def save_pictures(result: Result, folder: Path) -> list[Path]:
    """Write each picture as an SVG file into a folder, made if need be; raise `ReplicateError` if it can't be written."""
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for group, chart in charts_of(result).items():
            path = folder / f"{group.replace(' ', '-')}.svg"
            path.write_text(picture_of(chart), "utf-8")
            written.append(path)
    except OSError as error:
        raise ReplicateError(f"can't write pictures to {str(folder)!r}: {error.strerror or error}") from error
    return written


def page_of(result: Result, comparison: Comparison | None) -> str:
    """Give the page."""
    title = escape(title_of(result))
    return "\n".join(
        [
            f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{title}</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<style>{_STYLE}</style>\n<h1>{title}</h1>",
            *(f'<p class="headline">{escape(line)}</p>' for line in headline_of(result)),
            *(_comparison(comparison) if comparison is not None else ()),
            *(_chart(chart) for chart in charts_of(result).values()),
            "<h2>All figures</h2>",
            "<p>Median, and the quartiles between which half of the samples lie. Less is better.</p>",
            *(_table(table) for table in tables_of(result)),
            "<h2>Machine and method</h2>",
            _rows((), facts_of(result)),
            *(f"<p>{escape(note)}</p>" for note in result.notes),
            "</html>\n",
        ]
    )


def _chart(chart: Chart) -> str:
    legend = "".join(
        f'<li><i style="background:{COLOURS[number % len(COLOURS)]}"></i>{escape(line.name)}</li>'
        for number, line in enumerate(chart.lines)
    )
    return (
        f"<h2>{escape(chart.title)}</h2>\n<p>{escape(chart.text)}</p>\n{svg_of(chart)}\n"
        f'<ul class="legend">{legend}</ul>'
    )


def _table(table: TableOf) -> str:
    return f"<h2>{escape(table.title)}</h2>\n{_rows(table.headers, table.rows, right=table.right)}"


def _comparison(comparison: Comparison) -> Iterator[str]:
    yield f'<p class="headline">{escape(verdict_of(comparison))}</p>'
    yield _table(comparison_table(comparison))
    for warning in comparison.warnings:
        yield f"<p>{escape(warning)}</p>"


def _rows(headers: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{_class(text, column in right)}>{escape(text)}</{tag}>" for column, text in enumerate(row)
        )

    head = f"<tr>{cells(headers, 'th')}</tr>" if headers else ""
    body = "\n".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f'<div class="wide"><table>{head}\n{body}</table></div>'


def _class(text: str, right: bool) -> str:
    names = ["slower"] * (text == "slower") + ["right"] * right
    return f' class="{" ".join(names)}"' if names else ""
