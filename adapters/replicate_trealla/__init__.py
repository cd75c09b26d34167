"""Trealla Prolog, replicated: `PrologPool` for many threads, `AsyncPrologPool` for asyncio, `Prolog` for one interpreter.

::

    with PrologPool(program="parent(ann, bob). parent(bob, cid).") as pool:
        pool.query_all("parent(X, Y)")
        pool.execute("assertz(parent(cid, dan))")

The interpreter is a Wasm module that isn't part of this package: see `replicate_trealla.fetch`.
"""

from __future__ import annotations

from replicate_trealla import iso
from replicate_trealla.adapter import TreallaAdapter
from replicate_trealla.aio import AsyncInterpreter, AsyncPrologPool
from replicate_trealla.answers import Answer
from replicate_trealla.async_queries import AsyncQuery
from replicate_trealla.errors import (
    ConsultError,
    ConversionError,
    InterpreterError,
    MutationError,
    OutOfMemoryError,
    PrologError,
    PrologResourceError,
    PrologSyntaxError,
    StackOverflowError,
    TermError,
)
from replicate_trealla.from_terms import convert
from replicate_trealla.interpreter import Consulted, Interpreter
from replicate_trealla.pool import PrologPool
from replicate_trealla.predicates import Goal
from replicate_trealla.prolog import Prolog
from replicate_trealla.queries import Query
from replicate_trealla.records import functor
from replicate_trealla.terms import Atom, Compound, Opaque, Term, Variable, to_prolog
from replicate_trealla.to_terms import substitute, to_term, variables_of
from replicate_trealla.writing import Operators, write

__all__ = [
    "Answer",
    "AsyncInterpreter",
    "AsyncPrologPool",
    "AsyncQuery",
    "Atom",
    "Compound",
    "ConsultError",
    "Consulted",
    "ConversionError",
    "Goal",
    "Interpreter",
    "InterpreterError",
    "MutationError",
    "Opaque",
    "Operators",
    "OutOfMemoryError",
    "Prolog",
    "PrologError",
    "PrologPool",
    "PrologResourceError",
    "PrologSyntaxError",
    "Query",
    "StackOverflowError",
    "Term",
    "TermError",
    "TreallaAdapter",
    "Variable",
    "convert",
    "functor",
    "iso",
    "substitute",
    "to_prolog",
    "to_term",
    "variables_of",
    "write",
]
