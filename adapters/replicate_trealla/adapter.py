"""What Trealla Prolog needs around it to be replicated."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from replicate.adapter import Adapter, ResetRule
from replicate.imports import ImportValue
from replicate.wasi import Clock, Preopen, SystemClock, Wasi
from replicate_trealla import abi, fetch, mailbox, output
from replicate_trealla.interpreter import Interpreter, read_program

if TYPE_CHECKING:
    from replicate.handles import Guest

__all__ = ["Preopens", "TreallaAdapter"]

Preopens: TypeAlias = "Mapping[str, str | os.PathLike[str]] | Iterable[Preopen]"
"""Folders a guest may use, as `replicate.wasi.Wasi` takes them."""


class TreallaAdapter(Adapter):
    """Serve Trealla Prolog, as built for its Go embedding or for its npm package; which one is seen from its imports.

    `wasm` is the path of the module; without it, it's what `fetch.module_path` finds or fetches. `program` is loaded when
    a pool is opened, and then the files `consult`, which are read when the adapter is made.

    `preopens`, `env` and `clock` are as in `replicate.wasi.Wasi`. With `reseed`, each replica gets a random generator
    state of its own when it moves to a new version; otherwise all draw the same numbers. It costs a query for each move.

    Hazards: what the guest gets of the world outside is said here, not to the pool, whose own `wasi` would lose the goals'
    output. Descriptors that the leader has open aren't open in replicas unless they're preopened files; what a guest
    writes to files isn't rolled back.
    """

    name: ClassVar[str] = "trealla"
    reset: ResetRule = "on_commit"
    wasi: Wasi

    def __init__(
        self,
        *,
        wasm: str | os.PathLike[str] | None = None,
        program: str | None = None,
        consult: Iterable[str | os.PathLike[str]] = (),
        preopens: Preopens = (),
        env: Mapping[str, str] | None = None,
        clock: Clock | str = "system",
        reseed: bool = False,
    ) -> None:
        self._wasm = wasm
        self._programs = [("user", program)] if program is not None else []
        self._programs += [(os.fspath(path), read_program(path)) for path in consult]
        self._reseed = reseed
        # Not quiet: quiet mode stops loading at an unknown directive without a message.
        self.wasi = Wasi(
            args=["tpl", "--ns"],
            env=env or {},
            preopens=preopens,
            clock=clock,
            stdout=output.stdout,
            stderr=output.stderr,
            line_buffered=False,
        )

    def source(self) -> Path:
        """Give the module's path, fetching it if need be."""
        return fetch.module_path(self._wasm)

    def imports(self) -> dict[str, dict[str, ImportValue]]:
        """Give the host calls, and a faster clock than WASI's: every query asks twice what time it is."""
        return mailbox.imports(system_clock=isinstance(self.wasi.clock, SystemClock))

    def start(self, guest: Guest) -> None:
        """Start the interpreter on the leader and load the programs; raise `AdapterError` if it isn't a Trealla."""
        abi.start(guest)
        interpreter = Interpreter(guest)
        for name, text in self._programs:
            interpreter.consult_text(text, name=name)

    @property
    def reseeds(self) -> bool:
        """Whether replicas get random numbers of their own."""
        return self._reseed

    def reseed(self, guest: Guest) -> None:
        """Give a replica random numbers of its own, if asked for."""
        if self._reseed:
            Interpreter(guest).query_once("set_seed(Seed)", bindings={"Seed": secrets.randbits(30)})
