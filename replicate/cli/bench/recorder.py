"""Collect what the experiments of one benchmark find."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from replicate import Engine
from replicate.cli.bench.machine import describe_machine, load_average, real_cores
from replicate.cli.bench.results import Result, Series
from replicate.cli.bench.rounds import Pace, Variant, run_rounds
from replicate.cli.terminal import terminal
from replicate.configuration import usable_cores

__all__ = ["Recorder"]


class Recorder:
    """Run experiments, showing progress, and put together what they find."""

    def __init__(self, engine: Engine, pace: Pace) -> None:
        self.pace = pace
        self._began = time.monotonic()
        self._date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        self._machine = describe_machine(engine)
        self._series: dict[str, Series] = {}
        self._pass = 1
        self._reference: list[float] = []
        self._cores: list[float] = []
        self._others: dict[str, tuple[float, ...]] = {}
        self._repeated = 0
        self._groups: dict[str, str] = {}
        self._notes: list[str] = []
        self._look_at_cores()

    def _look_at_cores(self) -> None:
        with terminal.working("finding out how many cores there really are"):
            self._cores.append(real_cores(usable_cores(), spins=self.pace.spins))

    def passes(self) -> Iterator[None]:
        """Go through the passes; each is to do all experiments."""
        for number in range(self.pace.all_passes):
            self._pass = number + 1
            yield

    def measure(self, title: str, variants: Sequence[Variant], *, rounds: int | None = None) -> None:
        """Measure the variants of one experiment by turns, and how much of the machine there was after it.

        `rounds` are those of this pass.
        """
        if not variants:
            return
        wanted = rounds or self.pace.rounds_of_a_pass
        for each in variants:
            self._groups.setdefault(each.group, title)
        with _progress() as progress:
            task = progress.add_task(f"{title} ({self._pass} of {self.pace.all_passes})", total=wanted + 1)
            measured = run_rounds(variants, rounds=wanted, on_round=_advancing(progress, task))
        for one in measured.series:
            known = self._series.get(one.key)
            self._series[one.key] = one if known is None else known.followed_by(one)
        self._reference += measured.reference
        for group in {each.group for each in variants}:
            self._others[group] = self._others.get(group, ()) + measured.others
        self._repeated += measured.repeated
        if any(each.role == "crowd" for each in variants):
            self._look_at_cores()

    def note(self, text: str) -> None:
        """Keep a remark for whoever reads the result: what couldn't be measured, for instance."""
        if text not in self._notes:
            self._notes.append(text)

    def result(self, benchmark: str, *, subject: Mapping[str, str], settings: Mapping[str, Any], module: str) -> Result:
        """Give all that was found."""
        return Result(
            benchmark=benchmark,
            subject=subject,
            settings=settings,
            module=module,
            machine={**self._machine, "load_after": load_average()},
            began=self._date,
            seconds=round(time.monotonic() - self._began, 1),
            reference=tuple(self._reference),
            cores=tuple(self._cores),
            others=dict(self._others),
            repeated=self._repeated,
            groups=dict(self._groups),
            notes=tuple(self._notes),
            series=tuple(self._series.values()),
        )


def _advancing(progress: Progress, task: Any) -> Callable[[], object]:
    return lambda: progress.advance(task)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    console = terminal.progress_console
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
