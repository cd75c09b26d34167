"""`replicate prolog` as a user sees it: the real command in a terminal of its own."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pexpect = pytest.importorskip("pexpect")
pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals that pexpect can use")

_SECONDS = 60
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r")
PROMPT = "?-"
UP = "\x1b[A"


class Talk:
    """Type to a command, and read what it shows without what steers the terminal; `raw` has that too."""

    def __init__(self, *arguments: str, state: Path, **environment: str) -> None:
        self.child = pexpect.spawn(
            sys.executable,
            ["-m", "replicate.cli", "prolog", *arguments],
            env={**_environment(), "REPLICATE_STATE_DIR": str(state), **environment},
            cwd=str(state.parent),
            encoding="utf-8",
            codec_errors="replace",
            dimensions=(40, 100),
        )
        self.raw = ""
        self._seen = 0

    def type(self, text: str) -> None:
        """Type something; Enter is a carriage return."""
        self.child.send(text)

    def see(self, text: str) -> str:
        """Wait until it shows `text`, after what was seen before, and give all up to its end."""
        deadline = time.monotonic() + _SECONDS
        while True:
            shown = _CONTROL.sub("", self.raw)
            at = shown.find(text, self._seen)
            if at >= 0:
                start, self._seen = self._seen, at + len(text)
                return shown[start : self._seen]
            assert time.monotonic() < deadline, f"no {text!r} in {shown[self._seen :]!r}"
            try:
                self.raw += self.child.read_nonblocking(4096, timeout=1)
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                pytest.fail(f"it ended without {text!r} in {shown[self._seen :]!r}")

    def ask(self, goal: str, answer: str) -> str:
        """Type a goal, wait for what it answers and for the next prompt, and give all that was shown."""
        self.type(f"{goal}\r")
        return self.see(f"\n{answer}") + self.see(PROMPT)

    def leave(self, keys: str = "\x04") -> int:
        """Leave, and give the exit code."""
        self.type(keys)
        self.child.expect(pexpect.EOF, timeout=_SECONDS)
        self.child.close()
        code: int = self.child.exitstatus
        return code


def _environment() -> dict[str, str]:
    # The terminal doesn't answer when it's asked where its cursor is.
    return {**os.environ, "TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1", "COLUMNS": "100", "NO_COLOR": ""}


Start = Callable[..., Talk]


@pytest.fixture
def start(tmp_path: Path, trealla: Path) -> Iterator[Start]:
    """Start the command in a terminal and wait for its prompt."""
    started: list[Talk] = []

    def begin(*arguments: str, **environment: str) -> Talk:
        talk = Talk("--wasm", str(trealla), *arguments, state=tmp_path / "state", **environment)
        started.append(talk)
        talk.see(PROMPT)
        return talk

    yield begin
    for talk in started:
        talk.child.close(force=True)


@pytest.fixture
def talk(start: Start) -> Talk:
    return start()


# -- answers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [";", " ", "n", "\t"])
def test_a_key_gives_the_next_answer(talk: Talk, key: str) -> None:
    talk.type("member(X, [a, b, c]).\r")
    talk.see("X = a")
    talk.type(key)
    assert talk.see("X = b").endswith(" ;\nX = b")
    talk.type(key)
    talk.see("X = c.")
    talk.see(PROMPT)


@pytest.mark.parametrize("key", ["\r", ".", "\x04"])
def test_another_key_stops(talk: Talk, key: str) -> None:
    talk.type("repeat, write(one), nl.\r")
    talk.see("true")
    talk.type(key)
    assert "one" not in talk.see(PROMPT)
    assert talk.leave() == 0


def test_other_keys_do_nothing(talk: Talk) -> None:
    talk.type("member(X, [a, b]).\r")
    talk.see("X = a")
    talk.type(f"x{UP}1;")
    assert talk.see("X = b.") == " ;\nX = b."


def test_the_last_answer_needs_no_key(talk: Talk) -> None:
    talk.ask("X = 1.", "X = 1.")
    talk.ask("member(X, [1, 2]), X > 1.", "X = 2.")
    talk.ask("fail.", "false.")


def test_what_is_typed_ahead_is_used_when_its_turn_comes(talk: Talk) -> None:
    talk.type("member(X, [1, 2, 3]).\r;\rY = 7.\r")
    assert talk.see("\nY = 7.").count("X = ") == 2
    talk.see(PROMPT)


def test_pasted_goals_are_asked_in_turn(talk: Talk) -> None:
    talk.type("\x1b[200~X = 1.\nmember(Y, [1, 2]).\nZ = 3.\n\x1b[201~")
    talk.see("Z = 3.")
    talk.type("\r")
    talk.see("\nX = 1.\nY = 1")
    talk.type(";")
    talk.see("\nY = 2.\nZ = 3.")


def test_one_line_may_have_several_goals(talk: Talk) -> None:
    talk.ask("X = 1. X = 2.", "X = 1.\nX = 2.")


def test_enter_ends_a_line_until_the_goal_has_its_period(talk: Talk) -> None:
    talk.type("X = [1,\r")
    talk.see("|")
    talk.type("% not here.\r")
    talk.type("2].\r")
    talk.see("X = [1,2].")


def test_what_a_goal_writes_is_shown_while_it_runs(talk: Talk) -> None:
    talk.type("write(first), nl, repeat, fail.\r")
    talk.see("\nfirst\n")
    talk.child.sendintr()
    talk.see("interrupted")


def test_an_answer_begins_a_line(talk: Talk) -> None:
    talk.ask("write(abc), X = 1.", "abc\nX = 1.")


# -- errors and interruptions ------------------------------------------------------------------------------------------


def test_errors_are_red_and_the_toplevel_goes_on(talk: Talk) -> None:
    talk.ask("X = ).", "error: syntax error: ")
    talk.ask("nosuch(1).", "error: ")
    talk.ask("throw(ball).", "error: ball")
    talk.ask("X = 1.", "X = 1.")
    assert "\x1b[1;31merror: " in talk.raw


def test_colours_can_be_turned_off(start: Start) -> None:
    talk = start(NO_COLOR="1")
    talk.ask("throw(parent(Ann)).", "error: parent")

    assert re.findall(r"\x1b\[[0-9;]*3[0-9][0-9;]*m", talk.raw) == []


def test_ctrl_c_stops_an_endless_goal_and_undoes_it(talk: Talk) -> None:
    talk.type("assertz(p(1)), write(running), nl, repeat, fail.\r")
    talk.see("\nrunning")
    talk.child.sendintr()
    talk.see("error: interrupted")
    talk.see(PROMPT)
    talk.ask("catch(p(X), _, X = none).", "X = none.")


def test_ctrl_c_between_answers_undoes_the_goal(talk: Talk) -> None:
    talk.type("member(X, [1, 2]), assertz(p(X)).\r")
    talk.see("X = 1")
    talk.child.sendintr()
    talk.see("error: interrupted")
    talk.see(PROMPT)
    talk.ask("catch(p(X), _, X = none).", "X = none.")


def test_ctrl_c_at_the_prompt_drops_what_was_typed(talk: Talk) -> None:
    talk.type("X = 1,\x03")
    talk.see("X = 1,")
    talk.see(PROMPT)
    talk.ask("Y = 2.", "Y = 2.")


def test_time_between_answers_doesnt_count_against_the_timeout(start: Start) -> None:
    talk = start("--timeout", "1")
    talk.type("member(X, [1, 2]), assertz(p(X)).\r")
    talk.see("X = 1")
    # Its deadline is over when another one's, which began later, is.
    limit = start("--timeout", "1")
    limit.ask("repeat, fail.", "error: no answer within 1 s")
    talk.type(";")
    talk.see("X = 2.")
    talk.see(PROMPT)
    talk.type("p(X).\r")
    talk.see("X = 1")


# -- what is kept ------------------------------------------------------------------------------------------------------


def test_a_goal_is_kept_when_enough_answers_were_seen(talk: Talk) -> None:
    talk.type("member(X, [1, 2, 3]), assertz(p(X)).\r")
    talk.see("X = 1")
    talk.type(";")
    talk.see("X = 2")
    talk.type("\r")
    talk.see(PROMPT)
    talk.ask("findall(X, p(X), L).", "L = [1,2].")


def test_history_is_kept_from_run_to_run_and_for_this_user_only(start: Start, tmp_path: Path) -> None:
    first = start()
    first.ask("X = 41,\rY = 1.", "X = 41, Y = 1.")
    assert first.leave() == 0
    history = tmp_path / "state/prolog_history"
    assert history.stat().st_mode & 0o077 == 0

    second = start()
    second.type(UP)
    second.see("Y = 1.")
    second.type("\r")
    second.see("\nX = 41, Y = 1.")


def test_a_state_folder_that_cant_be_written_is_no_error(start: Start, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    talk = start()
    talk.ask("X = 1.", "X = 1.")
    assert talk.leave() == 0


def test_clauses_can_be_typed(talk: Talk) -> None:
    talk.type("[user].\r")
    talk.see("|:")
    talk.type("p(1).\r")
    talk.see("|:")
    talk.type("\x04")
    talk.see("true.")
    talk.see(PROMPT)
    talk.ask("p(X).", "X = 1.")


@pytest.mark.parametrize(("keys", "code"), [("\x04", 0), ("halt.\r", 0), ("X = 3, halt(X).\r", 3)])
def test_leaves(talk: Talk, keys: str, code: int) -> None:
    assert talk.leave(keys) == code


def test_an_error_at_the_start_is_told(tmp_path: Path, trealla: Path) -> None:
    talk = Talk("--wasm", str(trealla), "missing.pl", state=tmp_path / "state")
    talk.see("error: can't read missing.pl")
    assert talk.leave("") == 1


def test_says_what_to_install_when_line_editing_is_missing(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['prompt_toolkit'] = None; sys.argv[1:] = ['prolog'];"
        "from replicate.cli import main; sys.exit(main())"
    )
    child = pexpect.spawn(sys.executable, ["-c", code], env=_environment(), cwd=str(tmp_path), encoding="utf-8")
    child.expect(pexpect.EOF, timeout=_SECONDS)
    child.close()

    assert child.exitstatus == 1
    said = " ".join(_CONTROL.sub("", child.before).split())
    assert said.startswith("error: typing goals needs prompt_toolkit: pip install 'wasm-replicate[cli]'")


def test_quiet_says_nothing_but_the_prompt(start: Start) -> None:
    assert "Trealla" in _CONTROL.sub("", start().raw)
    assert "Trealla" not in _CONTROL.sub("", start("--quiet").raw)
