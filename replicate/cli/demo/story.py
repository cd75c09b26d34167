"""Tell the story: read from many threads, write, fail, and compare with one instance behind a lock."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import attrs
from rich.console import RenderableType
from rich.text import Text

from replicate import PoolStats
from replicate.cli.demo.load import Comparison, Question, compare, run_load
from replicate.cli.demo.scenario import Scenario
from replicate.cli.terminal import cell, size_of, terminal
from replicate.configuration import usable_cores
from replicate.errors import ReplicateError

__all__ = ["Story"]

_SHOWN = 4
_QUIET = 0.5


def _load_average() -> float:
    """Count the programs that have been running in the last minute, 0 where the system doesn't say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


@attrs.define(eq=False)
class Story:
    """Tell the story of one scenario: `queries` of them from `threads` threads, then `rounds` rounds of comparison."""

    scenario: Scenario
    queries: int
    threads: int
    rounds: int
    _load_before: float = attrs.field(factory=_load_average, init=False)
    _steps: int = attrs.field(default=0, init=False)

    def tell(self) -> None:
        """Print it as it happens; raise `ReplicateError` at the first wrong answer."""
        scenario = self.scenario
        terminal.say(f"[bold]{scenario.title}[/]", "")
        began = time.perf_counter()
        prepared = scenario.prepare()
        self._step("module", f"{prepared.module}, on {prepared.engine}; ready in {time.perf_counter() - began:.2f} s")
        self._step("write", f"{scenario.fill()}; {self._version()}")
        before = self._read()
        self._step("write", f"{scenario.change()}; {self._version()}")
        self._read_changed(before)
        self._fail()
        self._compare()
        self._show_stats()

    def _step(self, what: str, text: str) -> None:
        self._steps += 1
        terminal.facts([(f"{self._steps:2}  {what:<14}", cell(text))])

    def _version(self) -> str:
        return f"version {self.scenario.stats().version}"

    def _load(self) -> str:
        return f"{self.queries} from {min(self.threads, self.queries)} threads at once"

    def _ask_all(self) -> tuple[list[Question], float]:
        questions = self.scenario.questions(self.queries)
        return questions, run_load(self.scenario.ask, questions, threads=self.threads)

    def _read(self) -> list[Question]:
        questions, seconds = self._ask_all()
        self._step("reads", f"{self._load()}, all answers right, {seconds:.2f} s; some of them:")
        self._show(questions)
        return questions

    def _show(self, questions: list[Question]) -> None:
        chosen = list({question.text: question for question in questions}.values())[:_SHOWN]
        rows = [(cell(each.text), cell(self.scenario.show(self.scenario.ask(each)))) for each in chosen]
        terminal.say("")
        terminal.table((self.scenario.asking, "answer"), rows, indent=6)
        terminal.say("")

    def _read_changed(self, before: list[Question]) -> None:
        after, seconds = self._ask_all()
        changed = [new for old, new in zip(before, after, strict=True) if old.expected != new.expected]
        answers = f"{len(changed)} answer{'s' * (len(changed) != 1)} new"
        self._step("reads", f"{self._load()}, all answers right, {seconds:.2f} s; {answers}")
        if changed:
            self._show(changed)

    def _fail(self) -> None:
        version = self.scenario.stats().version
        failure = self.scenario.fail()
        self._step("failing write", f"{failure.tried} raised {failure.error}")
        if self.scenario.stats().version != version:
            raise ReplicateError("a write that failed was committed; this is a bug, please report it")
        _, seconds = self._ask_all()
        self._step("reads", f"{self._load()}, {seconds:.2f} s: every answer as before, still {self._version()}")

    def _compare(self) -> None:
        scenario = self.scenario
        with terminal.working("comparing with one instance behind a lock"):
            scenario.open_single()
            questions = scenario.questions(self.queries)
            found = compare(scenario.ask_single, scenario.ask, questions, threads=self.threads, rounds=self.rounds)
        terminal.heading(f"The same load on one {scenario.noun} behind a lock, and on the pool")
        terminal.say(
            cell(f"{found.queries} reads from {found.threads} threads a round, in turns. {scenario.workload}"), indent=2
        )
        terminal.say("")
        pool = f"pool of {scenario.stats().replicas}"
        rows = [
            (str(number), f"{each.locked:.3f} s", f"{each.pool:.3f} s", f"{each.ratio:.2f}x")
            for number, each in enumerate(found.rounds, 1)
        ]
        terminal.table(("round", f"one {scenario.noun}, locked", pool, "faster"), rows, right=(0, 1, 2, 3))
        terminal.say("")
        terminal.say(self._verdict(found), indent=2)

    def _verdict(self, found: Comparison) -> Text:
        cores = usable_cores()
        verdict = f"pool {found.ratio:.1f}x one locked {self.scenario.noun} on {cores} core{'s' * (cores != 1)}"
        note = ""
        if cores == 1:
            note = "replicas run in parallel only where there are more"
        elif self._load_before > _QUIET:
            note = f"this machine was busy: load average {self._load_before:.1f} before the demonstration began"
        return Text.assemble((verdict, "bold green" if found.ratio > 1 else "bold"), f"\n({note})" if note else "")

    def _show_stats(self) -> None:
        terminal.heading("pool.stats()")
        terminal.facts(_essentials(self.scenario.stats()))


def _essentials(stats: PoolStats) -> Iterator[tuple[str, RenderableType]]:
    yield "version", f"{stats.version} ({stats.commits} commits, {stats.rollbacks} rolled back)"
    yield "state", f"{size_of(stats.state_bytes)}, memory mode '{stats.memory_mode}'"
    yield "last commit", f"{stats.last_commit_pages:,} pages, {size_of(stats.last_commit_bytes)} copied"
    yield "reads", f"{stats.reads:,} on {stats.made} replicas, reset {stats.reset.replace('_', ' ')}"
    mean = stats.read_wait_seconds / stats.read_waits if stats.read_waits else 0.0
    yield "read waits", f"{stats.read_waits:,} found no idle replica and waited {mean * 1e3:.1f} ms on average"
    mean = stats.write_wait_seconds / stats.write_waits if stats.write_waits else 0.0
    yield "write waits", f"{stats.write_waits:,}" + (f", {mean * 1e3:.1f} ms on average" if stats.write_waits else "")
    yield "restores", f"{stats.restores:,}, {size_of(stats.restored_bytes)} copied"
