"""Trealla Prolog, replicated: `PrologPool` for many threads, `AsyncPrologPool` for asyncio, `Prolog` for one interpreter.

::

    with PrologPool(program="parent(ann, bob). parent(bob, cid).") as pool:
        pool.query_all("parent(X, Y)")
        pool.execute("assertz(parent(cid, dan))")

The interpreter is a Wasm module that isn't part of this package: see `replicate_trealla.fetch`.
"""

from __future__ import annotations

from replicate_trealla.adapter import TreallaAdapter
from replicate_trealla.aio import AsyncInterpreter, AsyncPrologPool
from replicate_trealla.answers import Answer
from replicate_trealla.errors import (
    ConsultError,
    InterpreterError,
    MutationError,
    OutOfMemoryError,
    PrologError,
    PrologResourceError,
    PrologSyntaxError,
    TermError,
)
from replicate_trealla.interpreter import Consulted, Interpreter
from replicate_trealla.predicates import Goal
from replicate_trealla.prolog import Prolog, PrologPool
from replicate_trealla.queries import AsyncQuery, Query
from replicate_trealla.terms import Atom, Compound, Opaque, Term, Variable, to_prolog

__all__ = [
    "Answer",
    "AsyncInterpreter",
    "AsyncPrologPool",
    "AsyncQuery",
    "Atom",
    "Compound",
    "ConsultError",
    "Consulted",
    "Goal",
    "Interpreter",
    "InterpreterError",
    "MutationError",
    "Opaque",
    "OutOfMemoryError",
    "Prolog",
    "PrologError",
    "PrologPool",
    "PrologResourceError",
    "PrologSyntaxError",
    "Query",
    "Term",
    "TermError",
    "TreallaAdapter",
    "Variable",
    "to_prolog",
]
