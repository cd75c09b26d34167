"""`replicate demo`, and the load it puts on guests."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

import pytest

from replicate import Pool, ReplicateError
from replicate.cli.demo import kv
from replicate.cli.demo.kv import KeyValueScenario
from replicate.cli.demo.load import Comparison, Question, Round, compare, run_load

Run = Callable[..., Any]
SMALL = ("--queries", "7", "--threads", "3", "--replicas", "2", "--rounds", "2")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kv, "_ROUNDS", 1000)
    monkeypatch.setattr("replicate.cli.demo.load._LEAST_SECONDS", 0.01)


@pytest.mark.usefixtures("quick")
def test_kv_tells_the_whole_story(run: Run) -> None:
    result = run("demo", "--guest", "kv", *SMALL)

    assert (result.code, result.err) == (0, "")
    said = " ".join(result.out.split())
    for expected in (
        "1 module kv.wasm",
        "2 write 2,000 entries; version 1",
        "3 reads 7 from 3 threads at once, all answers right",
        "4 write 1,000 values changed; version 2",
        "5 reads 7 from 3 threads at once, all answers right",
        "7 answers new",
        "6 failing write put_then_trap(1, -1) raised Trap(unreachable)",
        "every answer as before, still version 2",
        "pool of 2",
        "version 2 (2 commits, 1 rolled back)",
    ):
        assert expected in said
    assert re.search(r"^  pool \d+\.\dx one locked instance on \d+ cores?$", result.out, re.MULTILINE)


def test_kv_works_as_a_process(run_process: Run) -> None:
    result = run_process("demo", "--guest", "kv", *SMALL)

    assert (result.code, result.err) == (0, "")
    assert "pool.stats()" in result.out


@pytest.mark.usefixtures("quick")
def test_a_wrong_answer_exits_1(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Pool.read

    def wrong(self: Pool, fn: Callable[[Any], Any], **named: Any) -> Any:
        answer = right(self, fn, **named)
        return answer._replace(total=answer.total + 1) if isinstance(answer, kv.Answer) else answer

    monkeypatch.setattr(Pool, "read", wrong)
    result = run("demo", "--guest", "kv", *SMALL)

    assert result.code == 1
    assert result.err.startswith("error: wrong answer to ")
    assert "Traceback" not in result.err


@pytest.mark.usefixtures("quick")
def test_a_lost_write_exits_1(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KeyValueScenario, "fill", lambda self: self._model.update({1: 1}) or "nothing")
    result = run("demo", "--guest", "kv", *SMALL)

    assert result.code == 1
    assert "wrong answer" in result.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--guest", "cobol"), 2, "cobol"),
        (("--guest", "kv", "--wasm", "x.wasm"), 2, "is for --guest trealla"),
        (("--guest", "kv", "--replicas", "0"), 2, "--replicas"),
        (("--guest", "kv", "--threads", "0"), 2, "--threads"),
        (("--guest", "kv", "--queries", "many"), 2, "--queries"),
        (("--guest", "kv", "--engine", "nope"), 1, "no engine is called 'nope'"),
    ],
)
def test_wrong_arguments_are_refused(run: Run, arguments: tuple[str, ...], code: int, message: str) -> None:
    result = run("demo", *arguments)

    assert result.code == code
    assert message in result.err


def test_the_model_of_spin_is_right() -> None:
    scenario = KeyValueScenario(engine="wasmtime", replicas=1)
    with scenario:
        scenario.prepare()
        with scenario._open_pool().reading() as guest:
            spun = [guest.call("spin", rounds) for rounds in (0, 1, 2, 999)]

    assert spun == [kv._spun(rounds) for rounds in (0, 1, 2, 999)]


def echo(question: Question) -> Any:
    return question.goal


QUESTIONS = [Question(str(number), number, number) for number in range(20)]


def test_a_load_asks_each_question_once_from_all_threads() -> None:
    asked: list[int] = []
    threads: set[int] = set()
    together = threading.Barrier(5)

    def ask(question: Question) -> Any:
        asked.append(question.goal)
        if len(asked) <= 5:
            together.wait(10)
        threads.add(threading.get_ident())
        return question.goal

    run_load(ask, QUESTIONS, threads=5)

    assert sorted(asked) == list(range(20))
    assert len(threads) == 5


def test_a_load_raises_what_a_thread_met() -> None:
    def ask(question: Question) -> Any:
        return 1 // (question.goal - 3) * 0 + question.goal

    with pytest.raises(ZeroDivisionError):
        run_load(ask, QUESTIONS, threads=4)


def test_a_load_refuses_a_wrong_answer() -> None:
    with pytest.raises(ReplicateError, match="wrong answer to '3': got 4, expected 3"):
        run_load(echo, [Question("3", 4, 3)], threads=1)


def test_an_interrupted_load_leaves_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(threading.enumerate())

    def interrupted(self: threading.Barrier, timeout: float | None = None) -> int:
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        return wait(self, timeout)

    wait = threading.Barrier.wait
    monkeypatch.setattr(threading.Barrier, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_load(echo, QUESTIONS, threads=4)

    assert set(threading.enumerate()) <= before


def test_a_comparison_takes_the_median_of_its_rounds() -> None:
    rounds = (Round(2.0, 1.0), Round(1.0, 1.0), Round(9.0, 3.0))

    assert Comparison(10, 2, rounds).ratio == 2.0


def test_a_comparison_puts_the_same_load_on_both_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replicate.cli.demo.load._LEAST_SECONDS", 0.0)
    order: list[str] = []

    def locked(question: Question) -> Any:
        order.append("locked")
        return question.goal

    def pool(question: Question) -> Any:
        order.append("pool")
        return question.goal

    found = compare(locked, pool, QUESTIONS[:1], threads=1, rounds=4)

    assert found.queries == 1
    assert order[3:] == ["locked", "pool", "pool", "locked"] * 2
