"""What Trealla Prolog needs around it to be replicated."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from replicate.adapter import Adapter, ResetRule
from replicate.configuration import Workers, wants_processes
from replicate.errors import AdapterError, ArgumentRangeError, UnsupportedError
from replicate.imports import ImportValue
from replicate.wasi import Clock, Preopen, SystemClock, Wasi
from replicate_trealla import abi, fetch, mailbox, output
from replicate_trealla.interpreter import Interpreter, register_held
from replicate_trealla.predicates import Predicates, make_predicate
from replicate_trealla.programs import as_paths, program_of, read_programs
from replicate_trealla.watch import Watched, watched

if TYPE_CHECKING:
    from replicate.handles import Guest
    from replicate.interfaces import Engine

__all__ = ["OnMutation", "Preopens", "TreallaAdapter", "calls_here", "refuses_mutations"]

Preopens: TypeAlias = "Mapping[str, str | os.PathLike[str]] | Iterable[Preopen]"
"""Folders a guest may use, as `replicate.wasi.Wasi` takes them."""


OnMutation: TypeAlias = Literal["reset", "raise"]
"""What becomes of a read that changes facts: it's forgotten, or it's an error too."""


class TreallaAdapter(Adapter):
    """Serve Trealla Prolog, as built for its Go embedding or for its npm package; which one is seen from its imports.

    `wasm` is the path of the module; without it, it's what `fetch.module_path` finds or fetches. `program` is loaded when
    a pool is opened, and then the files `consult`, which are read when the adapter is made.

    `predicates` are Python functions by ``"name/arity"``, as in `Interpreter.register`; they're there before programs are
    loaded.

    `preopens`, `env` and `clock` are as in `replicate.wasi.Wasi`. With `reseed`, each replica gets a random generator
    state of its own when it moves to a new version; otherwise all draw the same numbers. It costs a query for each move.

    Hazards: what the guest gets of the world outside is said here, not to the pool, whose own `wasi` would lose the goals'
    output. Snapshots are of the module that `source` gives, which isn't the file's to the byte. Descriptors that the leader
    has open aren't open in replicas unless they're preopened files; what a guest writes to files isn't rolled back.
    """

    name: ClassVar[str] = "trealla"
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
        predicates: Predicates | None = None,
    ) -> None:
        self._wasm = wasm
        self._found: Watched | None = None
        given = () if program is None else (program_of(program),)
        self._programs = given + read_programs(as_paths(consult))
        self._reseed = reseed
        self.held = [make_predicate(indicator, function) for indicator, function in (predicates or {}).items()]
        """The predicates, to be held as long as there are instances."""
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

    @property
    def reset(self) -> ResetRule:  # type: ignore[override]
        """The cheaper rule, beside which reads that change something are noticed; the strict one for a module that can't."""
        return "on_commit" if self.notes_changes else "each_read"

    @property
    def notes_changes(self) -> bool:
        """Whether this module lets it be noticed that a goal has changed something."""
        return self._module().notes

    def _module(self) -> Watched:
        if self._found is None:
            self._found = watched(fetch.module_path(self._wasm))
        return self._found

    def __getstate__(self) -> dict[str, Any]:
        # The module goes to worker processes by another way.
        return {**self.__dict__, "_found": None}

    def source(self) -> bytes:
        """Give the module, fetching it if need be, made to note what goals change."""
        return self._module().wasm

    def imports(self) -> dict[str, dict[str, ImportValue]]:
        """Give the host calls, and a faster clock than WASI's: every query asks twice what time it is."""
        return mailbox.imports(system_clock=isinstance(self.wasi.clock, SystemClock))

    def start(self, guest: Guest) -> None:
        """Start the interpreter on the leader and load the programs; raise `AdapterError` if it isn't a Trealla."""
        abi.start(guest)
        interpreter = Interpreter(guest)
        for held in self.held:
            register_held(interpreter, held)
        interpreter.load_all(self._programs)

    @property
    def reseeds(self) -> bool:
        """Whether replicas get random numbers of their own."""
        return self._reseed

    def reseed(self, guest: Guest) -> None:
        """Give a replica random numbers of its own, if asked for."""
        if self._reseed:
            Interpreter(guest).query_once("set_seed(Seed)", bindings={"Seed": secrets.randbits(30)})


def refuses_mutations(adapter: TreallaAdapter, on_mutation: OnMutation) -> bool:
    """Tell whether changes by reads are an error; raise `ArgumentRangeError` or `AdapterError` where that can't be."""
    if on_mutation not in ("reset", "raise"):
        raise ArgumentRangeError(f"on_mutation is {on_mutation!r}; use 'reset' or 'raise'")
    if on_mutation == "raise" and not adapter.notes_changes:
        raise AdapterError(
            "this Trealla's builtins aren't where they're expected, so changes by reads can't be noticed: leave on_mutation "
            "out; replicas are then reset after each read"
        )
    return on_mutation == "raise"


def calls_here(adapter: TreallaAdapter, engine: str | Engine, workers: Workers | None) -> Callable[[], None]:
    """Give a function that raises `UnsupportedError` if predicates can't be called, and call it if there are any."""
    remote = wants_processes(engine, workers)

    def check() -> None:
        if remote:
            raise UnsupportedError(
                "Python predicates are called in the process that opened the pool, and this pool's guests are in worker "
                "processes: open it with workers='threads', on an engine that can"
            )

    if adapter.held:
        check()
    return check
