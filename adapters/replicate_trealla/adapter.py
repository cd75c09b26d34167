"""What Trealla Prolog needs around it to be replicated."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, TypedDict

from replicate.adapter import Adapter, ResetRule
from replicate.errors import AdapterError, ArgumentRangeError, ArgumentTypeError
from replicate.imports import ImportValue
from replicate.wasi import Clock, Preopen, SystemClock, Wasi
from replicate.wasi.config import preopens_of
from replicate_trealla import abi, fetch, mailbox, output
from replicate_trealla.calling import answer_worker
from replicate_trealla.files import GivenFiles
from replicate_trealla.interpreter import Interpreter, register_held
from replicate_trealla.predicates import Predicates, make_predicate
from replicate_trealla.programs import as_paths, program_of, read_programs
from replicate_trealla.randomness import checked_seed, find_seed, set_seed, write_seed
from replicate_trealla.watch import Watched, watched

if TYPE_CHECKING:
    from replicate.handles import Guest

__all__ = ["OnMutation", "Options", "Preopens", "TreallaAdapter", "refuses_mutations"]

_LIBRARY = "/library"
Preopens: TypeAlias = "Mapping[str, str | os.PathLike[str]] | Iterable[Preopen]"
"""Folders a guest may use, as `replicate.wasi.Wasi` takes them."""


OnMutation: TypeAlias = Literal["reset", "raise"]
"""What becomes of a read that changes facts: it's forgotten, or it's an error too."""


class Options(TypedDict, total=False):
    """Be what `Prolog` and the pools take for `TreallaAdapter`, which says what each is."""

    wasm: str | os.PathLike[str] | None
    program: str | None
    consult: Iterable[str | os.PathLike[str]] | str | os.PathLike[str]
    predicates: Predicates | None
    preopens: Preopens
    files: Mapping[str, str | bytes]
    library: str | os.PathLike[str] | None
    env: Mapping[str, str] | None
    clock: Clock | str
    seed: int | None
    stdout: output.Sink | None
    stderr: output.Sink | None
    quiet: bool
    trace: bool


class TreallaAdapter(Adapter):
    """Serve Trealla Prolog, as built for its Go embedding or for its npm package; which one is seen from its imports.

    `wasm` is the path of the module; without it, it's what `fetch.module_path` finds or fetches. `program` is loaded when
    a pool is opened, and then the files `consult`, which are read when the adapter is made.

    `predicates` are Python functions by ``"name/arity"``, as in `Interpreter.register`; they're there before programs are
    loaded.

    `preopens`, `env` and `clock` are as in `replicate.wasi.Wasi`. `files` are given as a mapping of names, ``/data/facts.pl``,
    to contents, which guests can read but not change. In the folder `library` of the host ``use_module(library(name))``
    finds ``name.pl``, beside what Trealla has itself.

    `seed` makes random numbers repeat: all replicas of a version start with the leader's generator, so that each draws the
    same numbers. Without one each replica has a generator of its own.

    `stdout` and `stderr` get each line that goals write, as soon as it's written, beside the answers: functions that take a
    text, or loggers (of level INFO and WARNING). They're called by whichever thread runs the goal, in a worker process
    where there are any. `quiet` leaves warnings out, and with them the reason why some programs can't be loaded. `trace`
    has every step of every goal written to standard error.

    Hazards: what the guest gets of the world outside is said here, not to the pool, whose own `wasi` would lose the goals'
    output. Snapshots are of the module that `source` gives, which isn't the file's to the byte. Descriptors that the leader
    has open aren't open in replicas unless they're preopened files; what a guest writes to files isn't rolled back.
    """

    name: ClassVar[str] = "trealla"
    beside_guest: ClassVar[bool] = True
    wasi: Wasi

    def __init__(
        self,
        *,
        wasm: str | os.PathLike[str] | None = None,
        program: str | None = None,
        consult: Iterable[str | os.PathLike[str]] | str | os.PathLike[str] = (),
        preopens: Preopens = (),
        files: Mapping[str, str | bytes] | None = None,
        library: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        clock: Clock | str = "system",
        seed: int | None = None,
        stdout: output.Sink | None = None,
        stderr: output.Sink | None = None,
        quiet: bool = False,
        trace: bool = False,
        predicates: Predicates | None = None,
    ) -> None:
        # Not as a path: Python 3.13 pickles those in a way that others can't read.
        self._wasm = None if wasm is None else os.fspath(wasm)
        self._at: str | None = None
        self._found: Watched | None = None
        given = () if program is None else (program_of(program),)
        self._programs = given + read_programs(as_paths(consult))
        self._seed = checked_seed(seed)
        self._files = GivenFiles(files or {})
        if not isinstance(predicates, (Mapping, type(None))):
            raise ArgumentTypeError(f"predicates is {predicates!r:.80}; give a dict, as {{'double/2': double}}")
        self.held = [make_predicate(indicator, function) for indicator, function in (predicates or {}).items()]
        """The predicates, to be held as long as there are instances."""
        folders = [*preopens_of(preopens), *self._files.preopens]
        args = ["tpl", "--ns"]
        if library is not None:
            folders.append(Preopen(os.fspath(library), _LIBRARY, read_only=True))
            args += ["--library", _LIBRARY]
        # Quiet mode stops loading at an unknown directive without a message, which is why it isn't the rule.
        args += ["-q"] * bool(quiet) + ["-t"] * bool(trace)
        self._out = output.Output(error=False, sink=output.checked_sink("stdout", stdout))
        self._err = output.Output(error=True, sink=output.checked_sink("stderr", stderr), traces=trace)
        self.wasi = Wasi(
            args=args,
            env=env or {},
            preopens=folders,
            clock=clock,
            stdout=self._out,
            stderr=self._err,
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
            self._found = watched(self._path())
        return self._found

    def _path(self) -> Path:
        if self._at is None:
            # Looking for it reads all of it, for its checksum.
            self._at = os.fspath(fetch.module_path(self._wasm))
        return Path(self._at)

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
        path = self._path()
        abi.start(guest)
        find_seed(guest, path)
        set_seed(guest, self._seed)
        interpreter = Interpreter(guest)
        for held in self.held:
            register_held(interpreter, held)
        interpreter.load_all(self._programs)

    def answer(self, guest: Guest, *arguments: Any) -> Any:
        """Call a predicate, or a function for output, for a guest in a worker process."""
        what, *rest = arguments
        if what == output.LINE:
            error, text = rest
            (self._err if error else self._out).tell(text)
            return None
        return answer_worker(guest, what, *rest)

    @property
    def reseeds(self) -> bool:
        """Whether replicas get random numbers of their own."""
        return self._seed is None

    def reseed(self, guest: Guest) -> None:
        """Give a replica random numbers of its own, unless they're to repeat."""
        if self._seed is None:
            write_seed(guest)


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
