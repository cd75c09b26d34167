"""The toplevel's pool: Prolog whose output is shown while a goal runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from replicate import Guest, Pool
from replicate.cli.prolog.screen import Screen
from replicate.cli.terminal import plain, terminal
from replicate_trealla import Consulted, Interpreter, Term, TreallaAdapter, output
from replicate_trealla.fetch import module_path

__all__ = ["Base"]


class Base:
    """Keep the pool, and give transactions of it. `wasm` is a module's path, None for the usual one."""

    def __init__(self, screen: Screen, *, wasm: Path | None, replicas: int) -> None:
        with terminal.working("looking for the module") as status:
            path = module_path(wasm, progress=lambda line: status.update(plain(line)))
        self._adapter = _Showing(path, screen)
        with terminal.working("starting the interpreter"):
            # What one question to a replica changes, the next one mustn't see.
            self._pool = Pool.open(self._adapter, replicas=replicas, reset="each_read", name="prolog")

    @contextmanager
    def asking(self, *, keep: bool) -> Iterator[Guest]:
        """Open a transaction for a goal: a write if what it changes is to be kept."""
        self._adapter.loading = False
        try:
            with self._pool.writing() if keep else self._pool.reading() as guest:
                yield guest
        finally:
            self._adapter.loading = True

    def consult(self, programs: Iterable[tuple[str, str]]) -> Consulted:
        """Load programs, given as names and texts, all of them or none."""
        return self._pool.write(lambda guest: Interpreter(guest).consult_all(programs))

    def read(self, text: str) -> Term:
        """Give the term that a text stands for."""
        answer = self._pool.read(lambda guest: Interpreter(guest).query_once(f"Term = (\n{text}\n)"))
        assert answer is not None
        return answer["Term"]

    def close(self) -> None:
        """Free the interpreters."""
        self._pool.close()

    def __enter__(self) -> Base:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class _Showing(TreallaAdapter):
    """Show what goals write instead of giving it with their answers; loading needs to see it first."""

    def __init__(self, wasm: Path, screen: Screen) -> None:
        super().__init__(wasm=wasm)
        self.loading = True
        self._screen = screen
        self.wasi = attrs.evolve(self.wasi, stdout=self._stdout, stderr=self._stderr, line_buffered=True)

    def _stdout(self, data: bytes) -> None:
        if self.loading:
            output.stdout(data)
        else:
            self._screen.wrote(data, error=False)

    def _stderr(self, data: bytes) -> None:
        if self.loading:
            output.stderr(data)
        else:
            self._screen.wrote(data, error=True)
