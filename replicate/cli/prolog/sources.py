"""Where goals and programs come from: files, a keyboard, with line editing and a history, or a pipe."""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from replicate.cache import state_folder
from replicate.errors import ReplicateError
from replicate_trealla.programs import read_program
from replicate_trealla.text import Clauses, split_clauses

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import History
    from prompt_toolkit.key_binding import KeyPressEvent

__all__ = ["Keyboard", "Pipe", "Source", "read_file"]

_STOP = ("\r", "\n", ".", "\x04", "")
_MORE = (";", " ", "n", "\t")


def read_file(path: Path) -> tuple[str, str]:
    """Give a program's name and text; a first line for the shell becomes a comment."""
    text = read_program(path)
    return str(path), f"%{text}" if text.startswith("#!") else text


class Source(ABC):
    """Give clauses, one after the other, and say whether more answers are wanted."""

    __slots__ = ()

    @abstractmethod
    def clauses(self, prompt: str) -> Iterator[str]:
        """Give clauses without their final periods, up to the end of the input; what is left over is read no more."""

    @abstractmethod
    def wants_more(self, number: int) -> bool:
        """Say whether another answer than these first ones is wanted."""


class Pipe(Source):
    """Read goals that nobody types; of each, at most `limit` answers are wanted."""

    def __init__(self, file: TextIO, *, limit: int | None) -> None:
        self._clauses = _split(file)
        self._limit = limit

    def clauses(self, prompt: str) -> Iterator[str]:
        # Whoever reads next goes on where the one before has stopped.
        return iter(lambda: next(self._clauses, None), None)

    def wants_more(self, number: int) -> bool:
        return self._limit is None or number < self._limit


def _split(file: TextIO) -> Iterator[str]:
    """Give the clauses of a file as soon as they're there; the last one needs no period."""
    splitter = Clauses()
    for line in file:
        yield from splitter.feed(line)
    yield from splitter.feed("", last=True)
    if splitter.begun:
        yield splitter.begun


class Keyboard(Source):
    """Read goals from a terminal. Enter ends the input if the last goal in it has its period, and a line otherwise."""

    def __init__(self) -> None:
        try:
            import prompt_toolkit  # noqa: F401
        except ModuleNotFoundError as error:
            raise ReplicateError(
                "typing goals needs prompt_toolkit: pip install 'wasm-replicate[cli]', or give goals with --goal, or in a pipe"
            ) from error
        self._session = _session()
        self._typed: deque[str] = deque()

    def clauses(self, prompt: str) -> Iterator[str]:
        while True:
            while self._typed:
                yield self._typed.popleft()
            try:
                self._typed.extend(split_clauses(self._session.prompt(prompt))[0])
            except KeyboardInterrupt:
                continue
            except EOFError:
                return

    def wants_more(self, number: int) -> bool:
        while True:
            key = self._typed_ahead() or _read_key()
            if key in _MORE:
                return True
            if key in _STOP:
                return False

    def _typed_ahead(self) -> str:
        """Give a key that came right behind a goal: the session has read it, and keeps it for whoever asks."""
        from prompt_toolkit.input.typeahead import get_typeahead, store_typeahead

        terminal = self._session.app.input
        presses = get_typeahead(terminal)
        store_typeahead(terminal, presses[1:])
        return presses[0].data if presses else ""


def _session() -> PromptSession[str]:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.key_binding import KeyBindings
    from prompt_toolkit.lexers import PygmentsLexer
    from pygments.lexers.prolog import PrologLexer  # type: ignore[import-untyped]

    keys = KeyBindings()

    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if split_clauses(buffer.text)[1]:
            buffer.newline()
        else:
            buffer.validate_and_handle()

    return PromptSession(
        multiline=True,
        prompt_continuation=lambda width, line, wrapped: "|".ljust(width),
        key_bindings=keys,
        history=_history(),
        lexer=PygmentsLexer(PrologLexer),
        enable_open_in_editor=True,
    )


def _history() -> History:
    """Keep what was typed in the user's state folder, readable by nobody else; only for this run where that can't be."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    path = state_folder() / "prolog_history"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_RDWR, 0o600))
    except OSError:
        return InMemoryHistory()
    return FileHistory(path)


def _read_key() -> str:
    """Wait for one key. What is typed after it stays where it is, for whoever reads next."""
    try:
        import termios
        import tty
    except ImportError:  # Windows
        import msvcrt

        return str(msvcrt.getwch())  # type: ignore[attr-defined, unused-ignore]
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    try:
        tty.setcbreak(keyboard, termios.TCSADRAIN)
        return os.read(keyboard, 1).decode("latin-1")
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
