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
        self._inside_line: set[bool] = set()

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
        if text.endswith("\n"):
            self._inside_line.discard(error)
        else:
            self._inside_line.add(error)

    def answer(self, text: str, end: str = ".\n") -> None:
        """Show an answer, or one whose end is still to come."""
        self._fresh_line()
        terminal.unwrapped(Text(plain(text), "bold"), end=end)
        sys.stdout.flush()

    def end(self, *, more: bool) -> None:
        """End the line of an answer."""
        terminal.unwrapped(Text(" ;" if more else "."))

    def news(self, text: str) -> None:
        """Show what isn't an answer."""
        self._fresh_line()
        terminal.unwrapped(Text(plain(text), "dim"))

    def warning(self, text: str) -> None:
        """Show a warning."""
        self._fresh_line(error=True)
        sys.stdout.flush()
        terminal.complain(Text.assemble(("warning: ", "bold red"), (plain(text), "red")))

    def error(self, text: str) -> None:
        """Show an error."""
        self._fresh_line(error=True)
        sys.stdout.flush()
        terminal.complain(Text.assemble(("error: ", "bold red"), (plain(text), "red")))

    def cut(self) -> None:
        """Take note that the cursor may be anywhere: a terminal shows ^C where it is."""
        self._inside_line.add(False)

    def _fresh_line(self, *, error: bool = False) -> None:
        """Begin a line, where this stream, or on a terminal the other one, has left one open."""
        if error in self._inside_line or (self._inside_line and sys.stdout.isatty() and sys.stderr.isatty()):
            self._inside_line.clear()
            if error:
                terminal.complain(Text())
            else:
                terminal.raw("\n")


def _decoder() -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder("utf-8")("replace")
