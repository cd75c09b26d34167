"""What a result says in words and figures, for the terminal and for the page."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator

import attrs

from replicate.cli.bench.charts import bytes_text, ratio_text, seconds_text
from replicate.cli.bench.comparison import Comparison
from replicate.cli.bench.pictures import locked_of, speed_up
from replicate.cli.bench.results import Result, Series
from replicate.cli.bench.samples import percentile, summarise

__all__ = ["TableOf", "comparison_table", "facts_of", "headline_of", "tables_of", "title_of", "verdict_of"]


@attrs.frozen
class TableOf:
    """Hold a table; the columns in `right` hold numbers."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: tuple[int, ...]


def title_of(result: Result) -> str:
    """Name what was measured."""
    if result.benchmark == "seed":
        return f"{result.settings['threads']} threads ask Trealla Prolog: a pool against one locked interpreter"
    return f"What a pool gives {result.subject['file']}"


def headline_of(result: Result) -> Iterator[str]:
    """Say for each crowd what a pool with a replica for each core gave, against one guest behind a lock."""
    cores = result.machine["cores"]
    for group, title in result.groups.items():
        series = result.in_group(group)
        locked = locked_of(series)
        if locked is None:
            continue
        found = [
            f"{_ratio(locked, each)} ({each.curve.partition('reset ')[2]})"
            for each in series
            if each is not locked and each.x == cores
        ]
        if found:
            busy = result.busy(group)
            disturbed = f"; other programs took {busy:.0%} of the cores" if busy > 0.1 else ""
            yield f"{title.removeprefix('all threads ask at once: ')}: pool of {cores} {', '.join(found)}{disturbed}"


def _ratio(locked: Series, other: Series) -> str:
    found = summarise(speed_up(locked, other))
    return f"{found.median:.2f}x"


def tables_of(result: Result) -> list[TableOf]:
    """Give a table for each experiment."""
    return [_table(title, result.in_group(group)) for group, title in result.groups.items()]


def _table(title: str, series: tuple[Series, ...]) -> TableOf:
    if all(each.role == "latency" for each in series):
        rows = []
        for each in series:
            ordered = sorted(each.samples)
            shares = [percentile(ordered, share) for share in (0.5, 0.9, 0.99, 0.999, 1.0)]
            rows.append((each.name, *map(seconds_text, shares), str(len(ordered))))
        headers = ("variant", "half within", "90 %", "99 %", "99.9 %", "all", "samples")
        return TableOf(title, headers, tuple(rows), tuple(range(1, 7)))
    locked = locked_of(series)
    lines = []
    for each in series:
        text = bytes_text if each.unit == "bytes" else seconds_text
        found = summarise(each.samples)
        line = [each.name, text(found.median), f"{text(found.low)} .. {text(found.high)}", str(len(each.samples))]
        if locked is not None:
            ratio = summarise(speed_up(locked, each))
            line[3:3] = [ratio_text(ratio.median), f"{ratio_text(ratio.low)} .. {ratio_text(ratio.high)}"]
        lines.append(tuple(line))
    faster = ("faster", "its quartiles") if locked is not None else ()
    headers = ("variant", "median", "quartiles", *faster, "samples")
    return TableOf(title, headers, tuple(lines), tuple(range(1, len(headers))))


def comparison_table(comparison: Comparison) -> TableOf:
    """Give what a comparison found, the worst first, without what hasn't changed."""
    order = {"slower": 0, "faster": 1, "noise": 2}
    told = [each for each in comparison.changes if each.verdict in order]
    rows = []
    for change in sorted(told, key=lambda each: (order[each.verdict], -each.growth.estimate)):
        growth = change.growth
        text = bytes_text if change.series.unit == "bytes" else seconds_text
        rows.append(
            (
                change.series.key,
                text(statistics.median(change.before.samples)),
                text(statistics.median(change.series.samples)),
                f"{_percent(growth.estimate)} %",
                f"{_percent(growth.low)} to {_percent(growth.high)}",
                change.verdict,
                change.reason,
            )
        )
    return TableOf(
        "Then and now", ("series", "then", "now", "change", "95 %", "verdict", ""), tuple(rows), (1, 2, 3, 4)
    )


def verdict_of(comparison: Comparison) -> str:
    """Sum a comparison up."""
    count = Counter(each.verdict for each in comparison.changes)
    parts = [f"{count[verdict]} {verdict}" for verdict in ("slower", "faster", "no change")]
    noise = f"{count['noise']} too noisy to tell"
    speed = f"a plain Python loop took {_percent(comparison.speed)} % longer than then"
    return f"of {len(comparison.changes)} series {', '.join([*parts, noise])}; {speed}"


def _percent(ratio: float) -> str:
    return f"{(ratio - 1) * 100:+.1f}"


def facts_of(result: Result) -> Iterator[tuple[str, str]]:
    """Say on what machine, when and how it was measured."""
    machine = result.machine
    memory = machine.get("memory_bytes")
    yield "measured", f"{result.began}, {result.seconds:.0f} s"
    yield "CPU", f"{machine['cpu']}, {machine['cores']} usable cores"
    yield (
        "really given",
        f"{min(result.cores):.2f} to {max(result.cores):.2f} cores' worth of work to {machine['cores']} processes, "
        f"load average {machine['load_before']:.1f} before and {machine['load_after']:.1f} after",
    )
    yield (
        "other programs",
        f"took {result.busy():.0%} of the cores in half of the rounds; rounds in which they took over 10 % were repeated, "
        f"{result.repeated} times",
    )
    yield "system", f"{machine['kernel']}" + (f", {bytes_text(memory)} of memory" if memory else "")
    lock = "with" if machine["interpreter_lock"] else "without"
    yield (
        "software",
        f"{machine['python']} ({lock} interpreter lock), {machine['engine']}, wasm-replicate {machine['library']}",
    )
    yield "copy-on-write", str(machine["copy_on_write"])
    settings = ", ".join(f"{name} {value}" for name, value in result.settings.items())
    calls = ", ".join(f"{name} {value}" for name, value in result.subject.items() if value)
    yield "settings", ", ".join(filter(None, [calls, settings]))
    yield (
        "method",
        "variants by turns in one process, after a warm-up; a call's sample is the best of some short batches",
    )
    yield "module", f"SHA-256 {result.module}"
