"""Programs to load: texts with a name and a module, from strings, files and folders of the host."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import attrs

from replicate.errors import ArgumentTypeError
from replicate_trealla.errors import ConsultError, PrologSyntaxError
from replicate_trealla.text import end_of_file, line_of

__all__ = ["Program", "as_paths", "program_of", "read_program", "read_programs"]


@attrs.frozen
class Program:
    """Be a program's text; `name` is what messages call it, `module` where its clauses go."""

    name: str
    text: str
    module: str = "user"

    def encode(self, last: str) -> bytes:
        """Give the bytes to load, with a clause after them; raise `PrologSyntaxError` for what isn't text to Trealla."""
        if "\0" in self.text:
            line = line_of(self.text, self.text.index("\0"))
            raise PrologSyntaxError(f"{self.name}:{line}: a zero byte: write it as \\0\\ inside quotes", line=line)
        try:
            return f"{self.text[: end_of_file(self.text)]}\n{last}".encode()
        except UnicodeEncodeError as error:
            line = line_of(self.text, error.start)
            raise PrologSyntaxError(
                f"{self.name}:{line}: half of a surrogate pair isn't Unicode text", line=line
            ) from error


def program_of(text: str, name: str = "user", module: str = "user") -> Program:
    """Check what `consult_text` is given."""
    if isinstance(text, os.PathLike):
        raise ArgumentTypeError(f"consult_text takes a program's text, not a path: use consult({os.fspath(text)!r})")
    if isinstance(text, (bytes, bytearray)):
        raise ArgumentTypeError("consult_text takes str, not bytes: decode it first, as with .decode('utf-8')")
    if not isinstance(text, str):
        raise ArgumentTypeError(f"consult_text takes a program's text, not {text!r:.80}")
    for what, given in (("name", name), ("module", module)):
        if not isinstance(given, str) or not given or "\0" in given:
            raise ArgumentTypeError(f"{what} is {given!r:.80}; give a str that isn't empty")
    if not _MODULE.fullmatch(module):
        raise ArgumentTypeError(
            f"module is {module!r:.80}; give a name of letters, digits and _ that starts in lower case"
        )
    return Program(name, text, module)


# Trealla writes others into goals without their quotes.
_MODULE = re.compile("[a-z][A-Za-z0-9_]{0,200}")


def as_paths(given: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> tuple[str | os.PathLike[str], ...]:
    """Give the paths of an option that takes one or several."""
    if isinstance(given, (str, os.PathLike)):
        return (given,)
    if isinstance(given, (bytes, bytearray)) or not isinstance(given, Iterable):
        raise ArgumentTypeError(f"consult is {given!r:.80}; give a path, or several: consult=['family.pl', 'rules.pl']")
    return tuple(given)


def read_programs(paths: Iterable[str | os.PathLike[str]]) -> tuple[Program, ...]:
    """Read program files, and for a folder all its ``*.pl``, sorted by name, without subfolders and hidden files.

    Raises `ConsultError` for what can't be read, or holds no program.
    """
    return tuple(Program(str(file), read_program(file)) for path in paths for file in _files(path))


def _files(given: str | os.PathLike[str]) -> list[Path]:
    if not isinstance(given, (str, os.PathLike)):
        raise ArgumentTypeError(f"{given!r:.80} isn't a path: consult takes files and folders, consult_text takes text")
    if "\0" in os.fspath(given):
        raise ConsultError(f"can't read {os.fspath(given)!r:.80}: a path has no zero byte")
    if isinstance(given, str) and "\n" in given:
        raise ConsultError(f"can't read {given!r:.80}: that's a program's text, not a path; use consult_text")
    path = Path(given)
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.glob("*.pl") if not file.name.startswith(".") and file.is_file())
    if not files:
        raise ConsultError(f"{path} holds no program: there's no *.pl file in it (subfolders aren't looked into)")
    return files


def read_program(path: str | os.PathLike[str]) -> str:
    """Read a program file; raise `ConsultError` if that can't be done."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ConsultError(f"can't read {os.fspath(path)}: {error.strerror}") from error
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConsultError(f"{os.fspath(path)}:{line}: this isn't UTF-8 text: {error.reason}", line=line) from error
