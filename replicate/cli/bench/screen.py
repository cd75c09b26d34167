"""Show a result in the terminal."""

from __future__ import annotations

from rich.text import Text

from replicate.cli.bench.charts import Chart
from replicate.cli.bench.comparison import Comparison
from replicate.cli.bench.pictures import charts_of
from replicate.cli.bench.plots import bars, curves
from replicate.cli.bench.results import Result
from replicate.cli.bench.tables import TableOf, comparison_table, facts_of, headline_of, tables_of, title_of, verdict_of
from replicate.cli.terminal import cell, terminal

__all__ = ["show_comparison", "show_result"]


def show_result(result: Result) -> None:
    """Print tables, pictures, the machine and, last, what it comes to."""
    terminal.say(Text(title_of(result), "bold"))
    pictures = {chart.title: chart for chart in charts_of(result).values()}
    for table in tables_of(result):
        _show_table(table)
        chart = pictures.get(table.title)
        if chart is not None:
            _show_chart(chart)
    terminal.heading("Machine and method")
    terminal.facts((name, cell(text)) for name, text in facts_of(result))
    for note in result.notes:
        terminal.facts([("note", cell(note))])
    lines = list(headline_of(result))
    if lines:
        terminal.heading("Against one guest behind a lock")
        for line in lines:
            terminal.say(cell(line, "bold green"), indent=2)


def show_comparison(comparison: Comparison) -> None:
    """Print what has changed; what is only noise too, since that is no proof that nothing has."""
    table = comparison_table(comparison)
    if table.rows:
        _show_table(table, style={"slower": "bold red", "faster": "green"})
    for warning in comparison.warnings:
        terminal.facts([("careful", cell(warning))])
    terminal.say("")
    terminal.say(cell(verdict_of(comparison), "bold red" if comparison.slower else "bold green"), indent=2)


def _show_table(table: TableOf, *, style: dict[str, str] | None = None) -> None:
    terminal.heading(table.title)
    rows = [[cell(each, (style or {}).get(each, "")) for each in row] for row in table.rows]
    terminal.table(table.headers, rows, right=table.right)


def _show_chart(chart: Chart) -> None:
    terminal.say("")
    if any(len(line.points) > 2 for line in chart.lines):
        for line in curves(chart):
            terminal.say(cell(line), indent=2)
        return
    for name, bar, figure in bars(chart, "="):
        terminal.say(cell(f"{name:40} {bar} {figure}"), indent=2)
