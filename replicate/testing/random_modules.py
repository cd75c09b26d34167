"""Random valid modules, full of state: `modules` draws them, `generate` makes them from seeds."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs
from hypothesis import strategies as st

from replicate.testing.assembler import Assembler
from replicate.testing.draft import Draft
from replicate.testing.features import Feature
from replicate.testing.random_calls import Call
from replicate.testing.random_host import host_functions

__all__ = ["GeneratedModule", "generate", "modules"]


@attrs.frozen
class GeneratedModule:
    """Be a random module in both formats, with what it takes to run it."""

    wasm: bytes = attrs.field(repr=False)
    observers: tuple[Call, ...] = attrs.field(repr=False)
    """Calls whose results, together, depend on everything the module can change."""
    given: dict[str, Any] = attrs.field(repr=False)
    """The values of imported globals, by name."""
    choices: tuple[int, ...] = attrs.field(default=(), repr=False)
    """What `generate` decided; empty for a module drawn by Hypothesis."""

    _assembler: Assembler = attrs.field(kw_only=True, eq=False, repr=False)

    @property
    def wat(self) -> str:
        """The module in the text format."""
        return self._assembler.text()

    def imports(self) -> dict[str, dict[str, Any]]:
        """Give the module's imports, made afresh."""
        return {"host": {**host_functions(), **self.given}}

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        # Hypothesis, like IPython, would spell out the fields otherwise.
        printer.text(repr(self))

    def __repr__(self) -> str:
        # What a failing property prints: the module can be read, and pasted.
        return f"<GeneratedModule of {len(self.wasm)} bytes:\n{self.wat}>"


@functools.cache
def _below(limit: int) -> st.SearchStrategy[int]:
    return st.integers(0, limit - 1)


def _made(below: Callable[[int], int], features: Feature) -> GeneratedModule:
    draft = Draft(below, features)
    draft.make()
    module = draft.module
    return GeneratedModule(module.binary(), draft.observers(), draft.given, assembler=module)


@st.composite
def modules(draw: st.DrawFn, *, features: Feature = Feature.ALL) -> GeneratedModule:
    """Draw a valid module, with state of every kind that `features` allow.

    Memories, globals and tables, imported, exported and hidden, that never change and that do; passive and active
    segments; a start function; host functions that end up in tables, call back or fail; exports that read and change all
    of it, one thing at a time or several in a row with a trap in between. `features_of` fits `features` to an engine.

    Hazard: most of what Hypothesis draws are variations of examples it has drawn before, some five of each. To try many
    modules that have nothing to do with each other, use `generate` with many seeds.
    """
    return _made(lambda limit: draw(_below(limit)), features)


def generate(choices: int | Sequence[int], *, features: Feature = Feature.ALL) -> GeneratedModule:
    """Make a module like those of `modules` from a seed, or from `GeneratedModule.choices`, changed or not.

    Any choices make a module; where they run out the simplest are made.
    """
    made: list[int] = []
    if isinstance(choices, int):
        rng = random.Random(choices)
        following: Iterator[int] = iter(lambda: rng.getrandbits(30), None)
    else:
        following = iter(choices)

    def below(limit: int) -> int:
        made.append(next(following, 0) % limit)
        return made[-1]

    return attrs.evolve(_made(below, features), choices=tuple(made))
