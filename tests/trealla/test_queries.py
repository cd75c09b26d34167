"""Asking one interpreter."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from replicate.errors import AdapterError, ArgumentRangeError, ReplicateError, Trap
from replicate_trealla import (
    Atom,
    Compound,
    Interpreter,
    InterpreterError,
    Opaque,
    Prolog,
    PrologError,
    PrologSyntaxError,
    Query,
    Variable,
)
from replicate_trealla.session import session_of
from replicate_trealla.watch import REDO


def close(answers: Query) -> None:
    answers.close()


def test_all_once_limit_and_none(shared: Prolog) -> None:
    assert shared.query_all("fact(X)") == [{"X": 1}, {"X": 2}, {"X": 3}]
    assert shared.query_all("fact(X)", limit=2) == [{"X": 1}, {"X": 2}]
    assert list(shared.query("fact(X)", limit=0)) == []
    assert shared.query_once("fact(X), X > 1") == {"X": 2}
    assert shared.query_once("fact(9)") is None
    assert shared.query_once("fact(1)") == {}


@pytest.mark.parametrize("stream", [False, True])
def test_endless_answers_are_cut_by_a_limit(shared: Prolog, stream: bool) -> None:
    assert list(shared.query("repeat, X = 1", limit=3, stream=stream)) == [{"X": 1}] * 3
    assert list(shared.query("repeat", limit=0, stream=stream)) == []


@pytest.mark.parametrize("limit", [-1, True, 1.5, "3"])
def test_a_limit_is_a_number_of_answers(shared: Prolog, limit: Any) -> None:
    with pytest.raises(ArgumentRangeError, match="limit is"):
        shared.query("true", limit=limit)


def test_what_comes_before_a_throw_is_given_first(shared: Prolog) -> None:
    for stream in (False, True):
        answers = shared.query("member(X, [1, 2, 0]), 1 is 1 // X ; member(X, [5])", stream=stream)
        assert next(answers) == {"X": 1}
        with pytest.raises(PrologError, match="zero_div"):
            list(answers)


def test_a_thrown_term_is_kept(shared: Prolog) -> None:
    with pytest.raises(PrologError) as caught:
        shared.query_once('throw(my(X, "text", [1, 2.5]))')

    ball = caught.value.ball
    assert isinstance(ball, Compound)
    assert (ball.functor, ball.args[1:]) == ("my", ("text", [1, 2.5]))
    assert isinstance(ball.args[0], Variable)


def test_an_unknown_predicate_says_so(shared: Prolog) -> None:
    with pytest.raises(PrologError, match=r"existence_error\(procedure,nowhere/2\)") as caught:
        shared.query_all("nowhere(X, 1)")

    assert isinstance(caught.value, ReplicateError)


@pytest.mark.parametrize(
    "goal", ["", " ", ".", "X = ", "X = (1", "X = 'a", 'X = "a', "f(X),.", "X = [1,2", "a b", ")", "X = 1 /* c"]
)
def test_text_that_is_no_goal_is_a_syntax_error(shared: Prolog, goal: str) -> None:
    with pytest.raises(PrologSyntaxError):
        shared.query_once(goal)
    assert shared.query_once("X = 1") == {"X": 1}


@pytest.mark.parametrize("goal", ["X = 1.", "X = 1 . % c", "X = 1 % c", "/* c */ X = 1", "\nX\n=\n1\n", "X = 1.\n"])
def test_layout_and_a_final_period_are_fine(shared: Prolog, goal: str) -> None:
    assert shared.query_once(goal) == {"X": 1}
    assert shared.query_once(goal, bindings={"Y": 2}) == {"X": 1, "Y": 2}
    assert list(shared.query(goal, stream=True)) == [{"X": 1}]


def test_bindings_come_before_the_goal(shared: Prolog) -> None:
    assert shared.query_all("fact(X) ; X = 7", bindings={"X": 7}) == [{"X": 7}]
    assert shared.query_once("true", bindings={"X": [1, Atom("a b")]}) == {"X": [1, Atom("a b")]}
    assert shared.query_once("Y = 3", bindings={"X": Compound("f", (Variable("Y"),))}) == {
        "X": Compound("f", (3,)),
        "Y": 3,
    }


def test_a_goal_may_be_larger_than_the_request_buffer(shared: Prolog) -> None:
    numbers = list(range(3000))

    assert shared.query_once("sum_list(L, S)", bindings={"L": numbers}) == {"L": numbers, "S": sum(numbers)}
    assert shared.query_once(f"sum_list({numbers}, S)") == {"S": sum(numbers)}
    for size in range(4080, 4100):
        text = "x" * (size - len("X = ''"))
        assert shared.query_once(f"X = '{text}'") == {"X": Atom(text)}


def test_variables_with_an_underscore_stay_inside(shared: Prolog) -> None:
    assert shared.query_once("_X = 1, _ = 2, Y = _X") == {"Y": 1}


def test_output_comes_with_the_answer_it_led_to(shared: Prolog) -> None:
    for stream in (False, True):
        goal = "member(X, [1, 2]), write(X), nl, write(user_error, e(X))"
        answers = list(shared.query(goal, stream=stream))
        assert [(answer.stdout, answer.stderr) for answer in answers] == [("1\n", "e(1)"), ("2\n", "e(2)")]
    assert shared.query_once("true").stdout == ""  # type: ignore[union-attr]
    big = shared.query_once("between(1, 3000, I), write(I), write(' '), I >= 3000")
    assert big is not None
    assert big.stdout == "".join(f"{number} " for number in range(1, 3001))


def test_constraints_on_variables_are_told(single: Prolog) -> None:
    single.consult_text(":- use_module(library(freeze)). :- use_module(library(dif)).")
    answer = single.query_once("dif(X, a), Y = f(X)")

    assert answer is not None
    assert answer == {"X": Variable("X"), "Y": Compound("f", (Variable("X"),))}
    assert str(answer.residual[0]) == "dif:dif(X,a)"
    assert single.query_once("freeze(X, true), X = 1").residual == ()  # type: ignore[union-attr]


def test_changes_stay(single: Prolog) -> None:
    single.consult_text(":- dynamic(seen/1).")

    assert single.execute("assertz(seen(1)), assertz(seen(2))") == {}
    assert single.query_all("seen(X)") == [{"X": 1}, {"X": 2}]
    assert single.execute("retract(seen(X))") == {"X": 1}
    assert single.query_all("seen(X)") == [{"X": 2}]
    assert single.execute("assertz(seen(3)), fail") is None
    assert single.query_all("seen(X)") == [{"X": 2}, {"X": 3}]


def test_streams_interleave_with_everything(single: Prolog) -> None:
    single.consult_text(":- dynamic(n/1). n(1). n(2). n(3).")
    one, two = single.query("n(X)", stream=True), single.query("n(X)", stream=True)

    assert (next(one), next(two), next(two)) == ({"X": 1}, {"X": 1}, {"X": 2})
    single.execute("assertz(n(4))")
    assert single.query_all("n(X)") == [{"X": 1}, {"X": 2}, {"X": 3}, {"X": 4}]
    single.consult_text("m(1).")
    # An open query sees the facts as they were when it began.
    assert list(one) == [{"X": 2}, {"X": 3}]
    three = single.query("n(X)", stream=True)
    assert next(three) == {"X": 1}
    close(two)
    del three
    gc.collect()
    assert single.query_all("m(X)") == [{"X": 1}]
    assert list(single.query("n(X)", stream=True, limit=2)) == [{"X": 1}, {"X": 2}]


def test_streams_cost_no_memory_that_stays(single: Prolog) -> None:
    def some() -> None:
        for count in range(30):
            one, two = single.query("repeat", stream=True), single.query("repeat", stream=True)
            next(one), next(two)
            for answers in (one, two) if count % 2 else (two, one):
                close(answers)

    some()
    before = single._instance.memory.size
    some()
    assert single._instance.memory.size == before


def test_thousands_of_queries_cost_no_memory_that_stays(single: Prolog) -> None:
    def some() -> None:
        for number in range(500):
            single.query_once("X = f(Y, Z)", bindings={"Y": [number, "text"]})
            single.query_all("member(X, [1, 2, 3]), atom_length(abc, Y)")
            for bad in ("throw(a(b))", "foo(", "nowhere"):
                with pytest.raises(PrologError):
                    single.query_once(bad)

    some()
    before = single._instance.memory.size
    for _ in range(4):
        some()
    assert single._instance.memory.size - before <= 128 << 10


def test_a_goal_that_stands_still_by_itself_is_taken_up_again(shared: Prolog) -> None:
    assert shared.query_all("member(X, [1, 2]), yield") == [{"X": 1}, {"X": 2}]
    assert list(shared.query("member(X, [1, 2]), yield", stream=True)) == [{"X": 1}, {"X": 2}]


def test_module_user_is_where_goals_run(single: Prolog) -> None:
    single.consult_text(":- dynamic(d/1). d(1). p(X) :- d(X).")
    single.execute("assertz(d(2))")

    assert single.query_all("p(X)") == single.query_all("user:d(X)") == [{"X": 1}, {"X": 2}]


def test_flags_of_programs_hold_for_goals(single: Prolog) -> None:
    assert single.query_once('X = "a", unify_with_occurs_check(Y, 1)') is not None
    single.consult_text(":- set_prolog_flag(occurs_check, true).")
    assert single.query_once("X = f(X)") is None
    assert single.query_all("member(Y, [1, 2]), \\+ Z = f(Z)") == [
        {"Y": 1, "Z": Variable("Z")},
        {"Y": 2, "Z": Variable("Z")},
    ]
    single.execute("set_prolog_flag(occurs_check, false)")
    assert single.query_once("X = f(X), Y = 1, X = f(_), \\+ Y = 2, fail ; true") == {
        "X": Variable("X"),
        "Y": Variable("Y"),
    }


@pytest.mark.parametrize(("flag", "value"), [("codes", [97, 98]), ("atom", Atom("ab")), ("chars", "ab")])
def test_answers_are_right_whatever_double_quotes_mean(single: Prolog, flag: str, value: Any, is_npm: bool) -> None:
    single.consult_text(f":- set_prolog_flag(double_quotes, {flag}).")
    if flag == "codes" and not is_npm:
        value = "ab"  # 0.33 remembers that they came from a string

    assert single.query_once("X = \"ab\", atom_chars(cd, Y), Z = 'e f'") == {"X": value, "Y": "cd", "Z": Atom("e f")}


def test_operators_of_programs_change_no_answer(single: Prolog) -> None:
    single.consult_text(":- op(700, xfx, ===>). :- op(200, xfy, f).")

    assert single.query_once("X = (a ===> b), Y = f(1, 2), Z = (:- a, b)") == {
        "X": Compound("===>", (Atom("a"), Atom("b"))),
        "Y": Compound("f", (1, 2)),
        "Z": Compound(":-", (Compound(",", (Atom("a"), Atom("b"))),)),
    }


def test_an_interpreter_that_halted_stays_ended(single: Prolog) -> None:
    with pytest.raises(InterpreterError, match="halt"):
        single.query_once("halt")
    for again in (lambda: single.query_once("true"), lambda: single.consult_text("a.")):
        with pytest.raises(InterpreterError, match="has ended"):
            again()


def test_an_interpreter_that_trapped_stays_ended(single: Prolog) -> None:
    nested = "s(" * 30_000 + "z" + ")" * 30_000
    with pytest.raises(Trap):
        single.query_once(f"X = {nested}")
    with pytest.raises(InterpreterError, match="has ended"):
        single.query_once("true")


def test_a_closed_interpreter_says_so(wasm: Path) -> None:
    prolog = Prolog(wasm=wasm)
    assert repr(prolog) == "<Prolog>"
    prolog.close()
    prolog.close()

    assert repr(prolog) == "<Prolog, closed>"
    with pytest.raises(ReplicateError):
        prolog.query_once("true")


def test_a_handle_without_an_interpreter_is_refused(single: Prolog) -> None:
    single._guest.local.clear()
    del single._guest.state["trealla"]

    with pytest.raises(AdapterError, match="no started Trealla"):
        session_of(single._guest)


def test_the_host_s_pointers_are_part_of_the_state(single: Prolog) -> None:
    before = single._instance.snapshot()
    single.consult_text("p(1).")
    after = single._instance.snapshot()
    for snapshot, answers in ((before, None), (after, {"X": 1}), (before, None)):
        single._instance.restore(snapshot)
        # A handle of its own, as a transaction would have; stale pointers would give no answer, or another's.
        single._guest.local.clear()
        interpreter = Interpreter(single._guest)
        assert interpreter.query_once("catch(p(X), _, fail)") == answers


def test_one_query_is_one_guest_call_and_one_to_ask_what_it_changed(
    single: Prolog, monkeypatch: pytest.MonkeyPatch
) -> None:
    from replicate.handles import Guest

    calls: list[str] = []
    call = Guest.call

    def counting(self: Guest, name: str, *args: Any) -> Any:
        calls.append(name)
        return call(self, name, *args)

    monkeypatch.setattr(Guest, "call", counting)
    assert single.query_once("X = 1") == {"X": 1}
    assert single.query_all("member(X, [1, 2, 3])") == [{"X": 1}, {"X": 2}, {"X": 3}]

    assert calls == [REDO] * 2


INTERRUPTED = """
import signal, sys, threading
from replicate_trealla import InterpreterError, Prolog

with Prolog(wasm=sys.argv[1]) as prolog:
    threading.Timer(0.5, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT]).start()
    try:
        prolog.query_once("repeat, fail")
    except KeyboardInterrupt:
        print("interrupted")
    try:
        prolog.query_once("true")
    except InterpreterError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there's no pthread_kill there")
def test_ctrl_c_ends_an_endless_goal_and_its_interpreter(wasm: Path) -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, wasm], capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    assert done.stdout.startswith("interrupted\nthis interpreter has ended")


@pytest.mark.parametrize("alias", ["stdin", "user_input", "user_output", "user_error", "stdout", "stderr"])
def test_the_names_of_streams_are_no_streams(single: Prolog, alias: str) -> None:
    answer = single.query_once("Back = V, current_output(S)", bindings={"V": [alias, Atom(alias), Atom(alias)(alias)]})
    assert answer is not None
    assert answer["Back"] == [alias, Atom(alias), Compound(alias, (alias,))]
    assert isinstance(answer["S"], Opaque)
