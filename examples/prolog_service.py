"""A Prolog service over HTTP: queries run on replicas side by side, assertions are transactions.

    pip install "wasm-replicate[service]"
    python prolog_service.py --port 8000 family.pl
    curl localhost:8000/assert -d '{"facts": [{"functor": "parent", "args": ["ann", "bob"]}]}'
    curl localhost:8000/query -d '{"goal": "parent(X, Child)", "bindings": {"X": "ann"}}'

JSON's strings are atoms; {"string": ...} is a string, {"functor": ..., "args": [...]} a compound term. What a client gives
goes into goals as terms, never as text. /stream gives answers as they come, one JSON object a line.

Whoever reaches it may run any goal: it listens on this machine only, and the goals see no files.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from fractions import Fraction
from typing import Any, TypeVar

import attrs
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from replicate.errors import CallError, ReplicateError
from replicate_trealla import (
    Answer,
    AsyncPrologPool,
    AsyncQuery,
    Atom,
    Compound,
    InterpreterError,
    PrologError,
    Term,
    to_prolog,
)

T = TypeVar("T")
MAX_BODY_BYTES, MAX_MEMORY_BYTES = 1 << 20, 256 << 20
MAX_ANSWERS, MAX_SECONDS = 10_000, 30.0

# -- the service -------------------------------------------------------------------------------------------------------


async def query(request: Request) -> JSONResponse:
    """Give all answers, up to the limit; there may be none."""
    asked = await question(request)
    answers = await while_connected(request, request.state.pool.query_all(**asked))
    return JSONResponse({"answers": [to_json(answer) for answer in answers], "limit": asked["limit"]})


async def stream(request: Request) -> StreamingResponse:
    """Give answers as they're found; a client that goes away stops the goal and frees its replica."""
    answers = request.state.pool.query(**await question(request), stream=True)
    return StreamingResponse(lines(answers), media_type="application/x-ndjson")


async def insert(request: Request) -> JSONResponse:
    """Add facts, all of them or none; every query that starts after the response sees them."""
    facts = [to_term(fact) for fact in field(await body(request), "facts", list)]
    await request.state.pool.execute("maplist(assertz, Facts)", bindings={"Facts": facts}, timeout=MAX_SECONDS)
    return JSONResponse({"asserted": len(facts)})


async def stats(request: Request) -> JSONResponse:
    """Tell what the pool has done, and what it costs."""
    return JSONResponse(attrs.asdict(request.state.pool.stats()))


async def health(request: Request) -> JSONResponse:
    """Tell whether a replica answers."""
    await request.state.pool.query_once("true", timeout=5)
    return JSONResponse({"status": "ok", "version": request.state.pool.version})


# -- what comes in, and what goes out ----------------------------------------------------------------------------------


async def question(request: Request) -> dict[str, Any]:
    """Read a goal, and the values of its variables, from a request."""
    given = await body(request)
    bindings = {name: to_term(value) for name, value in field(given, "bindings", dict, {}).items()}
    limit, timeout = field(given, "limit", int, 100), field(given, "timeout", (int, float), 5.0)
    if not (0 < limit <= MAX_ANSWERS and 0 < timeout <= MAX_SECONDS):
        raise HTTPException(400, f"'limit' goes up to {MAX_ANSWERS} answers, 'timeout' to {MAX_SECONDS:g} s")
    return {"goal": field(given, "goal", str), "bindings": bindings, "limit": limit, "timeout": timeout}


async def body(request: Request) -> dict[str, Any]:
    """Read a request's JSON object."""
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY_BYTES:
            raise HTTPException(413, f"a request has at most {MAX_BODY_BYTES} bytes")
    try:
        given = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the body isn't JSON: {error}") from error
    if not isinstance(given, dict):
        raise HTTPException(400, "the body isn't a JSON object")
    return given


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """Wait for something, but no longer than the client does: nobody else gets the replica until it's over."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise HTTPException(499, "the client has gone")
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


def field(given: dict[str, Any], name: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
    """Give a field of a request."""
    value = given.get(name, default)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise HTTPException(400, f"{name!r} is missing, or of the wrong type")
    return value


def to_term(value: Any) -> Term | bool:
    """Make a Prolog term of JSON."""
    match value:
        case str():
            return Atom(value)
        case bool() | int() | float():
            return value
        case list():
            return [to_term(each) for each in value]
        case {"string": str(text), **rest} if not rest:
            return text
        case {"functor": str(name), "args": [_, *_] as args, **rest} if not rest:
            return Compound(name, tuple(to_term(each) for each in args))
    raise HTTPException(400, f"{json.dumps(value):.80} isn't a term")


def to_json(value: Term | Answer) -> Any:
    """Make JSON of a Prolog term, or of an answer: its variables by name."""
    match value:
        case Answer():
            constraints = {"constraints": to_json(list(value.residual))} if value.residual else {}
            return {name: to_json(each) for name, each in value.items()} | constraints
        case Atom():
            return value.name
        case str():
            return {"string": value}
        case list():
            return [to_json(each) for each in value]
        case Compound():
            return {"functor": value.functor, "args": [to_json(each) for each in value.args]}
        case int() if value.bit_length() < 64:
            return value
        case float() if math.isfinite(value):
            return value
        case int() | float() | Fraction():
            return {"number": to_prolog(value) if not isinstance(value, float) else str(value)}
    return {"variable": str(value)}


async def lines(answers: AsyncQuery) -> AsyncIterator[str]:
    """Give answers as lines of JSON; an error is the last one."""
    async with answers:
        try:
            async for answer in answers:
                yield json.dumps(to_json(answer)) + "\n"
        except ReplicateError as error:
            yield json.dumps(told(error)) + "\n"


def told(error: Exception) -> dict[str, Any]:
    """Give an error as JSON; of what a goal threw, the term too."""
    if isinstance(error, RecursionError):
        return {"error": "a term is nested too deeply for JSON"}
    ball = error.ball if isinstance(error, PrologError) else None
    return {"error": str(error)} | ({"ball": to_json(ball)} if ball is not None else {})


async def refuse(request: Request, error: Exception) -> JSONResponse:
    """Answer a request that went wrong."""
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code)
    at_fault = (PrologError, InterpreterError, CallError, RecursionError)
    status = 504 if isinstance(error, TimeoutError) else 400 if isinstance(error, at_fault) else 503
    return JSONResponse(told(error), status)


# -- putting it together -----------------------------------------------------------------------------------------------


def service(files: list[str], replicas: int | None) -> Starlette:
    """Make the application: it opens the pool when it starts, and closes it when it ends."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        # What a query changes in its replica, no other query may see.
        async with AsyncPrologPool(
            consult=files, replicas=replicas, reset="each_read", max_memory=MAX_MEMORY_BYTES, name="service"
        ) as pool:
            yield {"pool": pool}

    routes = [Route("/stats", stats), Route("/health", health)]
    routes += [
        Route(f"/{name}", do, methods=["POST"])
        for name, do in (("query", query), ("stream", stream), ("assert", insert))
    ]
    handlers = dict.fromkeys((HTTPException, ReplicateError, RecursionError), refuse)
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve Prolog over HTTP.")
    parser.add_argument("files", nargs="*", metavar="FILE", help="a program to consult")
    parser.add_argument("--port", type=int, default=8000, help="0: any that is free")
    parser.add_argument("--replicas", type=int, help="default: one a core")
    chosen = parser.parse_args()
    uvicorn.run(service(chosen.files, chosen.replicas), port=chosen.port, timeout_graceful_shutdown=5)


if __name__ == "__main__":
    main()
