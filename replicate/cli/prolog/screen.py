"""What the toplevel shows: answers and what goals write on standard output, complaints on standard error."""

from __future__ import annotations

import codecs
import sys

from rich.text import Text

from replicate.cli.terminal import plain, terminal

__all__ = ["Screen"]


class Screen:
    """Show things in the order in which they happen, each beginning a line where it should."""

    def __init__(self) -> None:
        self._decoders = {False: _decoder(), True: _decoder()}
        self._inside_line = False

    def wrote(self, data: bytes, *, error: bool) -> None:
        """Show what a goal writes, at once and as it is."""
        text = self._decoders[error].decode(data)
        if not text:
            return
        if error:
            terminal.complain(Text(text, "red"), end="")
        else:
            terminal.raw(text)
            sys.stdout.flush()
        self._inside_line = not text.endswith("\n")

    def answer(self, text: str, end: str) -> None:
        """Show an answer, or its beginning; `end` is a line feed, or what the cursor is left after."""
        self._fresh_line()
        terminal.unwrapped(Text(plain(text), "bold"), end=end)
        sys.stdout.flush()

    def go_on(self, text: str) -> None:
        """End the line that an answer has begun."""
        terminal.unwrapped(Text(text, "bold"))

    def news(self, text: str) -> None:
        """Show what isn't an answer."""
        self._fresh_line()
        terminal.unwrapped(Text(plain(text), "dim"))

    def warning(self, text: str) -> None:
        """Show a warning."""
        self._fresh_line()
        sys.stdout.flush()
        terminal.complain(Text.assemble(("warning: ", "bold red"), (plain(text), "red")))

    def error(self, text: str) -> None:
        """Show an error."""
        self._fresh_line()
        sys.stdout.flush()
        terminal.complain(Text.assemble(("error: ", "bold red"), (plain(text), "red")))

    def _fresh_line(self) -> None:
        if self._inside_line:
            terminal.raw("\n")
            self._inside_line = False


def _decoder() -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder("utf-8")("replace")
