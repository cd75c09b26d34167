"""`replicate prolog` without a terminal: goals in a pipe, and goals given as options."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
FAMILY = "parent(ann, bob).\nparent(bob, cid).\n"


@pytest.fixture
def ask(run_process: Run, trealla: Path) -> Run:
    """Run `replicate prolog` on goals in a pipe."""

    def ask(goals: str, *arguments: str) -> Any:
        return run_process("prolog", "--wasm", str(trealla), *arguments, stdin=goals.encode())

    return ask


@pytest.fixture
def family(tmp_path: Path) -> str:
    path = tmp_path / "family.pl"
    path.write_text(FAMILY)
    return str(path)


# -- answers -----------------------------------------------------------------------------------------------------------


def test_prints_all_answers_of_each_goal(ask: Run, family: str) -> None:
    result = ask("parent(X, Y).\nparent(ann, bob). parent(ann, cid).\nparent(bob, X)", family)

    assert (result.code, result.err) == (0, "")
    assert result.out == "X = ann, Y = bob ;\nX = bob, Y = cid.\ntrue.\nfalse.\nX = cid.\n"


def test_says_false_where_the_last_choice_gives_nothing(ask: Run) -> None:
    assert ask("member(X, [1, 2, 3]), X < 3.").out == "X = 1 ;\nX = 2 ;\nfalse.\n"


def test_answers_are_bounded_on_request(ask: Run) -> None:
    assert ask("repeat. member(X, [1, 2, 3]).", "--answers", "2").out == "true ;\ntrue.\nX = 1 ;\nX = 2.\n"


def test_shows_aliases_and_constraints_but_not_variables_that_are_themselves(ask: Run) -> None:
    result = ask("X = Y. dif(X, a). freeze(X, true). X = _, Y = f(Z).")

    assert result.out == "Y = X.\ndif(X,a).\nfreeze(X,true).\nY = f(Z).\n"


def test_a_goal_may_have_many_lines_comments_and_quoted_periods(ask: Run) -> None:
    result = ask("% nothing\nX = 'a. b',\n/* c. */ Y = \"d. \",\nZ = 0'. .\n")

    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("X = 'a. b', Y = ")
    assert result.out.endswith("Z = 46.\n")


def test_what_goals_write_stands_before_their_answers(ask: Run) -> None:
    result = ask("write(a), fail. write(b), nl, X = 1. write(user_error, c). write('h\u00e9').")

    assert result.out == "a\nfalse.\nb\nX = 1.\ntrue.\nh\u00e9\ntrue.\n"
    assert result.err == "c"


def test_a_pipe_gets_no_colours(ask: Run) -> None:
    result = ask("X = 1. foo(. throw(a). write(user_error, oops).", "-g", "fail")

    assert "\x1b" not in result.out + result.err


def test_control_characters_in_answers_are_escaped(ask: Run) -> None:
    assert "\x1b" not in ask("X = 'a\\x1b\\[31mb', Y = \"\\x1b\\\".").out


# -- errors ------------------------------------------------------------------------------------------------------------


def test_an_error_is_told_and_the_next_goal_asked(ask: Run) -> None:
    result = ask("foo(. X = 1. nosuch(1). throw(a). X = 2.")

    assert result.code == 1
    assert result.out == "X = 1.\nX = 2.\n"
    syntax, unknown, thrown = result.err.splitlines()
    assert syntax.startswith("error: syntax error: ")
    assert "existence_error(procedure," in unknown
    assert "nosuch/1" in unknown
    assert thrown == "error: a"


def test_programs_are_loaded_whole_or_the_line_is_told(ask: Run, tmp_path: Path) -> None:
    (tmp_path / "broken.pl").write_text("p(1).\np(2.\n")
    result = ask("p(X).", str(tmp_path / "broken.pl"))

    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("error: ")
    assert "broken.pl:2: " in result.err


def test_a_first_line_for_the_shell_is_skipped(ask: Run, tmp_path: Path) -> None:
    (tmp_path / "script.pl").write_text("#!/usr/bin/env -S replicate prolog\np(1).\n")
    assert ask("p(X).", "script.pl").out == "X = 1.\n"


def test_a_missing_program_exits_1(ask: Run) -> None:
    result = ask("true.", "missing.pl")

    assert (result.code, result.out) == (1, "")
    assert result.err == "error: can't read missing.pl: No such file or directory\n"


def test_what_isnt_text_is_an_error_of_its_goal(run_process: Run, trealla: Path) -> None:
    result = run_process("prolog", "--wasm", str(trealla), stdin=b"X = '\xff'.\nX = 1.\n")

    assert (result.code, result.out) == (1, "X = 1.\n")
    assert "isn't UTF-8" in result.err


def test_a_trap_costs_its_goal_only(ask: Run) -> None:
    result = ask("assertz(p(1)). X = f(X). p(X).")

    assert result.out.splitlines()[-1] == "X = 1."


def test_other_wrong_usage_exits_2(run: Run) -> None:
    assert run("prolog", "--replicas", "0").code == 2
    assert run("prolog", "--timeout", "soon").code == 2
    assert run("prolog", "--answers", "0").code == 2


# -- what is kept ------------------------------------------------------------------------------------------------------


def test_what_goals_change_is_kept(ask: Run) -> None:
    result = ask("assertz(p(1)). p(X). member(X, [2, 3]), assertz(p(X)), fail. findall(X, p(X), L).")

    assert result.out == "true.\nX = 1.\nfalse.\nL = [1,2,3].\n"


def test_a_goal_that_throws_changes_nothing(ask: Run) -> None:
    assert ask("assertz(p(1)). assertz(p(2)), throw(no). p(X).").out == "true.\nX = 1.\n"


def test_a_goal_whose_time_is_up_changes_nothing(ask: Run) -> None:
    result = ask("assertz(p(1)). assertz(p(2)), repeat, fail. p(X).", "--timeout", "0.5")

    assert (result.code, result.out) == (1, "true.\nX = 1.\n")
    assert "no answer within 0.5 s" in result.err


def test_flags_and_operators_are_kept(ask: Run) -> None:
    result = ask('set_prolog_flag(double_quotes, codes). X = "a". op(700, xfx, ===>). (a ===> B) = (A ===> b).')

    assert result.out == "true.\nX = [97].\ntrue.\nB = b, A = a.\n"


def test_question_marks_ask_a_replica_and_keep_nothing(ask: Run) -> None:
    assert ask("assertz(p(1)). ?? assertz(p(2)), p(X). ?? p(X). p(X).").out == (
        "true.\nX = 1 ;\nX = 2.\nX = 1.\nX = 1.\n"
    )


# -- programs from the toplevel ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("goal", ["['{}']", "consult('{}')", 'consult("{}")', ":- ['{}']"])
def test_a_goal_consults_files_of_the_host(ask: Run, family: str, goal: str) -> None:
    assert ask(f"{goal.format(family)}. parent(ann, X).").out == "true.\nX = bob.\n"
    assert ask(f"{goal.format(family.removesuffix('.pl'))}. parent(ann, X).").out == "true.\nX = bob.\n"


def test_user_is_what_follows(ask: Run) -> None:
    assert ask("[user]. p(1). p(2). end_of_file. p(X). [user]. q(3).").out == "true.\nX = 1 ;\nX = 2.\ntrue.\n"


def test_consulting_what_isnt_there_is_an_error(ask: Run) -> None:
    result = ask("[nothing, user]. p(1). end_of_file. X = 1.")

    assert result.code == 1
    assert "can't read nothing" in result.err


# -- goals as options, and leaving -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("goals", "code"),
    [
        (["true"], 0),
        (["parent(ann, X), write(X)."], 0),
        (["fail"], 1),
        (["throw(a)"], 1),
        (["foo("], 1),
        (["true", "fail", "halt(3)"], 1),
        (["halt"], 0),
        (["halt(3)"], 3),
        (["parent(X, Y), X == bob, halt(4)"], 4),
        (["( fail -> true ; halt(5) )"], 5),
        (["X = 6, halt(X)"], 6),
        (["member(X, [halt])"], 0),
    ],
)
def test_goals_given_as_options_decide_the_exit_code(ask: Run, family: str, goals: list[str], code: int) -> None:
    result = ask("write(never).", family, *(part for goal in goals for part in ("--goal", goal)))

    assert result.code == code
    assert "never" not in result.out
    assert "X =" not in result.out


def test_a_goal_that_fails_is_named(ask: Run) -> None:
    assert ask("", "-g", "true", "-g", "1 = 2").err == "warning: goal failed: 1 = 2\n"


def test_goals_given_as_options_see_what_those_before_them_did(ask: Run) -> None:
    assert ask("", "-g", "assertz(p(7))", "-g", "p(X), write(X), nl").out == "7\n"


def test_halt_leaves_without_asking_the_rest(ask: Run) -> None:
    result = ask("X = 1. write(bye), nl, halt(7). X = 2.")

    assert (result.code, result.out) == (7, "X = 1.\nbye\n")


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
def test_ctrl_c_ends_it_in_a_pipe(trealla: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "replicate.cli", "prolog", "--wasm", str(trealla), "-g", "write(go), nl, repeat, fail"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "go\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert (process.returncode, err) == (130, "error: interrupted\n")


def test_goals_are_answered_as_they_come(trealla: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "replicate.cli", "prolog", "--wasm", str(trealla)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
        cwd=tmp_path,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    for number in range(3):
        process.stdin.write(f"X = {number}.\n")
        assert process.stdout.readline() == f"X = {number}.\n"
    process.stdin.close()
    assert process.wait(60) == 0
    process.stdout.close()


def test_other_commands_dont_pay_for_it() -> None:
    code = "import sys, replicate.cli.app; print(sorted({'prompt_toolkit', 'replicate_trealla', 'wasmtime'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
