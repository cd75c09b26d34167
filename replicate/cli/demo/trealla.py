"""Trealla Prolog: a timetable, and the fastest way from one town to another."""

from __future__ import annotations

import itertools
import random
import threading
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from replicate import PoolStats, load_engine
from replicate.cli.demo.load import Question
from replicate.cli.demo.scenario import Failure, Prepared, Scenario
from replicate.cli.terminal import plain, size_of, terminal
from replicate.errors import ReplicateError
from replicate_trealla import Prolog, PrologError, PrologPool
from replicate_trealla.fetch import module_path

__all__ = ["TreallaScenario"]

_LINES = {
    ("amsterdam", "brussels"): 112,
    ("amsterdam", "cologne"): 158,
    ("brussels", "paris"): 82,
    ("brussels", "cologne"): 108,
    ("brussels", "london"): 121,
    ("london", "paris"): 137,
    ("cologne", "frankfurt"): 64,
    ("frankfurt", "basel"): 172,
    ("frankfurt", "munich"): 195,
    ("munich", "zurich"): 212,
    ("munich", "vienna"): 243,
    ("paris", "basel"): 184,
    ("basel", "zurich"): 53,
    ("zurich", "milan"): 197,
    ("vienna", "venice"): 462,
    ("milan", "venice"): 147,
}
_NEW_LINES = {("paris", "milan"): 290, ("frankfurt", "zurich"): 150}

_RULES = r"""
leg(From, To, Minutes) :- line(From, To, Minutes).
leg(From, To, Minutes) :- line(To, From, Minutes).

route(Town, Town, Been, Minutes, Minutes-Been).
route(From, To, Been, Minutes0, Route) :-
    leg(From, Next, Leg),
    \+ memberchk(Next, Been),
    Minutes is Minutes0 + Leg,
    route(Next, To, [Next|Been], Minutes, Route).

fastest(From, To, Minutes, Stops) :-
    findall(Route, route(From, To, [From], 0, Route), Routes),
    msort(Routes, [Minutes-Back|_]),
    reverse(Back, Stops).
"""

Lines = dict[tuple[str, str], int]


class Journey(NamedTuple):
    """What one query brings back."""

    minutes: int
    stops: tuple[str, ...]


def _facts(lines: Lines) -> list[str]:
    return [f"line({start}, {end}, {minutes})" for (start, end), minutes in lines.items()]


def _program() -> str:
    return "".join([":- dynamic(line/3).\n", *(f"{fact}.\n" for fact in _facts(_LINES)), _RULES])


def _fastest(lines: Lines, start: str, end: str) -> Journey:
    """Find what `fastest/4` finds: of all routes without a town twice the shortest, of equals the first in term order."""
    legs: dict[str, list[tuple[str, int]]] = {}
    for (one, other), minutes in lines.items():
        legs.setdefault(one, []).append((other, minutes))
        legs.setdefault(other, []).append((one, minutes))
    routes = []
    open_routes: list[tuple[int, tuple[str, ...]]] = [(0, (start,))]
    while open_routes:
        spent, been = open_routes.pop()
        if been[0] == end:
            routes.append((spent, been))
        else:
            open_routes += [(spent + minutes, (town, *been)) for town, minutes in legs[been[0]] if town not in been]
    minutes, back = min(routes)
    return Journey(minutes, back[::-1])


class TreallaScenario(Scenario):
    """Keep a timetable in Trealla Prolog."""

    title: ClassVar[str] = "Trealla Prolog in Wasm"
    noun: ClassVar[str] = "interpreter"
    asking: ClassVar[str] = "query"
    workload: ClassVar[str] = "A read is one query: it searches all routes between two towns for the fastest."

    def __init__(self, *, engine: str, replicas: int | None, wasm: Path | None) -> None:
        super().__init__(engine=engine, replicas=replicas)
        self._wasm = wasm
        self._lines: Lines = {}
        self._pool: PrologPool | None = None
        self._single: Prolog | None = None
        self._lock = threading.Lock()

    def prepare(self) -> Prepared:
        with terminal.working("looking for the module") as status:
            path = module_path(self._wasm, progress=lambda line: status.update(plain(line)))
        self._wasm = path
        engine = load_engine(self.engine)
        with terminal.working("compiling"):
            module = engine.compile(path)
        with terminal.working("starting the interpreter"):
            self._pool = PrologPool(replicas=self.replicas, engine=self.engine, wasm=path)
        return Prepared(engine.version, f"{path.name}, {size_of(module.info.size)}")

    def _open_pool(self) -> PrologPool:
        assert self._pool is not None
        return self._pool

    def fill(self) -> str:
        self._open_pool().consult_text(_program(), name="timetable")
        self._lines = dict(_LINES)
        return f"a timetable of {len(_LINES)} lines and the rule fastest/4 consulted"

    def questions(self, count: int) -> list[Question]:
        towns = sorted({town for line in self._lines for town in line})
        pairs = list(itertools.permutations(towns, 2))
        random.Random(count).shuffle(pairs)
        answers = {pair: _fastest(self._lines, *pair) for pair in pairs[:count]}
        questions = [
            Question(goal, goal, answer)
            for (start, end), answer in answers.items()
            for goal in [f"fastest({start}, {end}, Minutes, Stops)"]
        ]
        return [questions[number % len(questions)] for number in range(count)]

    @staticmethod
    def _journey(answer: Any) -> Journey | None:
        return None if answer is None else Journey(answer["Minutes"], tuple(town.name for town in answer["Stops"]))

    def ask(self, question: Question) -> Any:
        return self._journey(self._open_pool().query_once(question.goal))

    def show(self, answer: Any) -> str:
        return f"{answer.minutes} min: {', '.join(answer.stops)}"

    def change(self) -> str:
        goals = [f"assertz({fact})" for fact in _facts(_NEW_LINES)]
        self._open_pool().execute(", ".join(goals))
        self._lines |= _NEW_LINES
        return ", ".join(goals)

    def fail(self) -> Failure:
        goal = "retractall(line(_, _, _)), throw(strike)"
        try:
            self._open_pool().execute(goal)
        except PrologError as error:
            return Failure(goal, f"PrologError({error.ball})")
        raise ReplicateError("a write that throws has returned; this is a bug, please report it")

    def open_single(self) -> None:
        self._single = Prolog(engine=self.engine, wasm=self._wasm)
        self._single.consult_text(_program(), name="timetable")
        for fact in _facts(_NEW_LINES):
            self._single.query_once(f"assertz({fact})")

    def ask_single(self, question: Question) -> Any:
        assert self._single is not None
        with self._lock:
            return self._journey(self._single.query_once(question.goal))

    def stats(self) -> PoolStats:
        return self._open_pool().stats()

    def close(self) -> None:
        if self._single is not None:
            self._single.close()
        if self._pool is not None:
            self._pool.close()
