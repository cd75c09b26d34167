"""The one place that writes to the terminal: results on standard output, errors and progress on standard error."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console, JustifyMethod, RenderableType
from rich.padding import Padding
from rich.status import Status
from rich.table import Table
from rich.text import Text

__all__ = ["Terminal", "cell", "plain", "size_of", "terminal"]

_WIDTH_OF_A_PIPE = 120
_INDENT = 2


def plain(text: str) -> str:
    """Escape what could steer a terminal, line feeds aside: names in a module are whatever its author likes."""
    return "".join(
        each if each.isprintable() or each == "\n" else each.encode("unicode_escape").decode() for each in text
    )


def cell(text: str, style: str = "") -> Text:
    """Make text from the outside fit for output: no markup, no control characters."""
    return Text(plain(text), style)


def size_of(size_bytes: int) -> str:
    """Spell a size: ``512 bytes``, ``8.8 KiB``, ``15.7 MiB``."""
    if size_bytes < 1024:
        return f"{size_bytes} bytes"
    if size_bytes < 1 << 20:
        return f"{size_bytes / 1024:.1f} KiB"
    return f"{size_bytes / (1 << 20):.1f} MiB"


class Terminal:
    """Write results, errors and progress, readable without colours and in a pipe.

    The streams are looked up at each write, so that tests can replace them. Colours follow ``NO_COLOR``, ``FORCE_COLOR``
    and ``TERM``; a pipe's width is ``COLUMNS``, or wide enough not to cut anything that matters.
    """

    def __init__(self) -> None:
        self._out = self._console(stderr=False)
        self._err = self._console(stderr=True)

    @staticmethod
    def _console(*, stderr: bool) -> Console:
        console = Console(stderr=stderr, highlight=False, emoji=False)
        if not console.is_terminal and "COLUMNS" not in os.environ:
            console.width = _WIDTH_OF_A_PIPE
        return console

    def say(self, *what: RenderableType, indent: int = 0) -> None:
        """Print texts, in rich's markup, or tables."""
        out = self._out
        for each in what:
            shown = Padding(each, (0, 0, 0, indent), expand=False) if indent else each
            if out.is_terminal:
                out.print(shown)
                continue
            # Columns are filled up with spaces, which only get in the way in files and when lines are compared.
            with out.capture() as captured:
                out.print(shown)
            out.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))

    def heading(self, text: str) -> None:
        """Print the title of what follows."""
        self.say("", Text(plain(text), "bold"))

    def table(
        self,
        headers: Sequence[str],
        rows: Iterable[Sequence[RenderableType]],
        *,
        right: Sequence[int] = (),
        indent: int = _INDENT,
    ) -> None:
        """Print rows in columns; those in `right` hold numbers."""
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
        for index, header in enumerate(headers):
            justify: JustifyMethod = "right" if index in right else "left"
            table.add_column(header, justify=justify, overflow="fold")
        for row in rows:
            table.add_row(*row)
        self.say(table, indent=indent)

    def facts(self, facts: Iterable[tuple[str, RenderableType]]) -> None:
        """Print names and values, one a line."""
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in facts:
            grid.add_row(name, value)
        self.say(grid, indent=_INDENT)

    def json(self, value: Any) -> None:
        """Print a value as JSON, uncoloured."""
        self._out.print(
            json.dumps(value, indent=2, ensure_ascii=True), markup=False, highlight=False, soft_wrap=True, emoji=False
        )

    def raw(self, text: str) -> None:
        """Print a text as it is, for another program to read."""
        self._out.file.write(text)

    def unwrapped(self, text: Text, *, end: str = "\n") -> None:
        """Print a text whose lines stay whole, however wide the terminal is."""
        self._out.print(text, soft_wrap=True, end=end)

    def complain(self, text: Text, *, end: str = "\n") -> None:
        """Print a text to standard error; its lines stay whole."""
        self._err.print(text, soft_wrap=True, end=end)

    def error(self, message: str) -> None:
        """Print one error to standard error; in a pipe its lines aren't wrapped."""
        text = Text.assemble(("error: ", "bold red"), plain(message))
        self._err.print(text, soft_wrap=not self._err.is_terminal)

    def working(self, what: str) -> Status:
        """Show a spinner while something takes long; nothing where standard error is no terminal."""
        return self._err.status(Text(plain(what)), spinner="line", refresh_per_second=4)

    @property
    def width(self) -> int:
        """How many characters a line has."""
        return self._out.width

    @property
    def progress_console(self) -> Console:
        """The console for progress bars."""
        return self._err


def _never_fail_on_characters() -> None:
    """Escape what the stream's encoding has no character for, instead of dying half-way through a table."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


_never_fail_on_characters()
terminal = Terminal()
