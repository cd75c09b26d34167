"""How the host talks to Trealla: guest calls, guest memory, and what the guest calls back.

`Session` belongs to one guest handle. A query costs one guest call, ``pl_redo`` of the query that serves all others (see
``driver.pl``), one call back for each answer and one for the end. The request is written into a string of the driver's,
whose address, like all guest pointers the host keeps, lies in ``guest.state`` and is replicated with the guest.
"""

from __future__ import annotations

import enum
from collections.abc import Generator
from importlib import resources
from typing import TYPE_CHECKING, TypeAlias

import attrs

from replicate.errors import AdapterError, GuestExit
from replicate.imports import HostFunction
from replicate_trealla import output
from replicate_trealla.answers import is_answer
from replicate_trealla.errors import InterpreterError

if TYPE_CHECKING:
    from replicate.handles import Guest

__all__ = ["Abi", "Message", "Session", "forget_session", "host_functions", "recognise", "session_of", "start"]

_KEY = "trealla"
_MASK = 0xFFFFFFFF
_REQUEST_BYTES = 4096
_SERVE = b"'$replicate':serve.\0"
_SCRATCH_BYTES = 64

_END = b"[0]"

# What '$host_call'/2 makes of the status: it succeeds, fails, or throws a system_error.
_TRUE, _FALSE, _ERROR = 1, 2, 0


class Abi(enum.Enum):
    """Name the two families of Trealla modules."""

    PUSH = "push"
    """The Go embedding's, since 2025: it imports ``trealla.host-push-answer``."""
    NPM = "npm"
    """The npm package's, 0.17 (2023)."""


# What the driver needs that the two do differently. Writing also sets the flags that the serving query goes on with,
# occurs_check among them: they must be those of user, whose double_quotes=codes spoils strings in the one.
_OPTIONS = "[json(true), double_quotes(true), quoted(true), max_depth(0)]"
_SPECIFIC = {
    Abi.NPM: f"""
load(Text) :- user:'$load_chars'(Text).
json(Term, Text) :- user:write_term_to_chars(Term, {_OPTIONS}, Text).
residual(Names, Names, Goals) :- copy_term(Names, _, Goals).
""",
    Abi.PUSH: f"""
load(Text) :- load_text(Text, [module(user)]).
json(Term, Text) :- write_term_to_chars(Term, {_OPTIONS}, Text), user:write_term_to_chars([], [], _).
residual(Names, Copy, Goals) :- copy_term(Names, Copy, Goals).
""",
}
_LOAD = {Abi.NPM: "user:'$load_chars'(\"{}\")", Abi.PUSH: 'load_text("{}", [module(user)])'}


def recognise(guest: Guest) -> Abi:
    """Tell which family a module belongs to; raise `AdapterError` if it isn't a Trealla that can be embedded."""
    exports = set(guest.exports)
    missing = {"pl_global", "pl_query", "pl_redo", "pl_done", "canonical_abi_realloc"} - exports
    if missing:
        raise AdapterError(
            f"this module isn't a Trealla Prolog made for embedding: it doesn't export {', '.join(sorted(missing))}; "
            "use the npm package's or the Go embedding's build (libtpl)"
        )
    # The function came with the push of answers. A guest handle doesn't tell imports.
    return Abi.PUSH if "pl_capture_reset" in exports else Abi.NPM


Message: TypeAlias = "tuple[bytes, bytes, bytes]"
"""What the driver sent, as JSON, and the standard output and error since the message before."""


# -- what the guest calls ----------------------------------------------------------------------------------------------


def host_functions() -> dict[str, HostFunction]:
    """Give the functions of the module ``trealla`` that a guest imports; those it doesn't import are ignored."""
    return {
        "host-call": HostFunction(_host_call, caller=True),
        "host-resume": HostFunction(_refuse_resume, caller=True),
        "host-push-answer": HostFunction(_refuse_answer, caller=True),
    }


def _host_call(guest: Guest, query: int, message: int, size: int, reply: int, reply_size: int) -> int:
    session: Session = guest.local[_KEY]
    return session.answer_call(message & _MASK, size, reply & _MASK, reply_size & _MASK)


def _refuse_resume(guest: Guest, query: int, reply: int, reply_size: int) -> int:
    return _ERROR


def _refuse_answer(guest: Guest, query: int, message: int, size: int) -> None:
    """Drop the answer of a ``$json_ask/1`` that somebody's program calls by itself."""


# -- starting ----------------------------------------------------------------------------------------------------------


def start(guest: Guest) -> None:
    """Start the interpreter and its serving query, on the leader; replicas get both as state."""
    abi = recognise(guest)
    try:
        guest.call("_start")
    except GuestExit as ended:
        if ended.code:
            raise AdapterError(f"Trealla ended with status {ended.code} when it was started") from ended
    interpreter = guest.call("pl_global") & _MASK
    scratch = guest.call("canonical_abi_realloc", 0, 0, 1, _SCRATCH_BYTES) & _MASK
    guest.memory.write(scratch + 8, _SERVE)
    session = guest.local[_KEY] = Session(guest, _Pointers(interpreter, scratch, 0, 0, False))
    driver = resources.files("replicate_trealla").joinpath("driver.pl").read_text("utf-8")
    program = f'{driver}{_SPECIFIC[abi]}request("{"." * _REQUEST_BYTES}").\n'
    escaped = program.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    session.begin(f"{_LOAD[abi].format(escaped)}, '$replicate':first_serve.")


def session_of(guest: Guest) -> Session:
    """Give the session on a guest handle, making one for a handle that's new."""
    session: Session | None = guest.local.get(_KEY)
    if session is not None and session.guest is guest:
        if session.broken:
            raise InterpreterError("this interpreter has ended: open a new one, or a new transaction of the pool")
    else:
        try:
            fields = guest.state[_KEY]
        except KeyError:
            raise AdapterError(
                "there's no started Trealla behind this guest handle: open it with TreallaAdapter"
            ) from None
        session = guest.local[_KEY] = Session(guest, _Pointers(*fields))
        session.abandon()
    return session


def forget_session(guest: Guest) -> None:
    """Forget what is known of a guest handle whose guest was restored."""
    guest.local.pop(_KEY, None)


@attrs.frozen
class _Pointers:
    """Be what the host knows of the guest's memory; kept in ``guest.state`` as a tuple."""

    interpreter: int
    scratch: int
    request: int
    server: int
    """The query that serves."""
    streaming: bool
    """The server is in the middle of a stream, waiting to be told whether to go on."""


class _Mode(enum.Enum):
    ALL = enum.auto()
    STREAM = enum.auto()


class Session:
    """Send requests to the interpreter behind one guest handle, and take its messages.

    Hazard: like the handle, it's for one thread at a time, and dies with the transaction.
    """

    __slots__ = (
        "_limit",
        "_lost",
        "_messages",
        "_mode",
        "_output",
        "_settled",
        "_stopping",
        "_text",
        "broken",
        "guest",
        "memory",
        "pointers",
    )

    def __init__(self, guest: Guest, pointers: _Pointers) -> None:
        self.guest = guest
        self.memory = guest.memory
        self.pointers = pointers
        self.broken = False
        """A call ended half-way, so the guest can't be used until it's restored."""
        self._output = output.Output()
        self._messages: list[Message] = []
        self._mode = _Mode.ALL
        self._limit: int | None = None
        self._settled = False
        self._lost = False
        self._stopping = False
        self._text: bytes | None = None

    def begin(self, goal: str) -> None:
        """Start the serving query, and all this is about, with a goal that loads the driver and goes on to serve."""
        text = goal.encode() + b"\0"
        at = self.guest.call("canonical_abi_realloc", 0, 0, 1, len(text)) & _MASK
        self.memory.write(at, text)
        server = self._open_server(at)
        self.guest.call("canonical_abi_free", at, len(text), 1)
        if not self.pointers.request:
            raise AdapterError(
                "this Trealla couldn't load the adapter's driver: its version isn't known to work (0.23, 0.33)"
            )
        self._keep(attrs.evolve(self.pointers, server=server))

    # -- requests ------------------------------------------------------------------------------------------------------

    def collect(self, request: bytes, limit: int | None) -> list[Message]:
        """Run a request to its end, or until it has given `limit` answers, in one go; with 0, don't run it.

        Raises `InterpreterError` when the interpreter ended instead of saying how it went.
        """
        if limit == 0:
            return []
        server, spare = self.pointers.server, False
        if self.pointers.streaming:
            server, spare = self._open_server(), True
        self._write(request)
        self._limit = limit
        self._drive(server, _Mode.ALL)
        if spare:
            self.guest.call("pl_done", server)
        messages, self._messages = self._messages, []
        return messages

    def stream(self, request: bytes) -> Generator[Message, None, None]:
        """Run a request answer by answer, the interpreter standing still between them.

        Other requests may come in between. Closing the iterator early stops the query and frees what it holds.
        """
        spare = self.pointers.streaming
        server = self._open_server() if spare else self.pointers.server
        if not spare:
            self._keep(attrs.evolve(self.pointers, streaming=True))
        self._write(request)
        going_on = True
        try:
            while going_on:
                self._drive(server, _Mode.STREAM)
                message = self._messages.pop()
                going_on = is_answer(message[0])
                yield message
        finally:
            if self.guest.is_alive:
                if spare:
                    self.guest.call("pl_done", server)
                else:
                    if going_on:
                        self._stop(server)
                    self._keep(attrs.evolve(self.pointers, streaming=False))

    def load(self, program: bytes) -> Message:
        """Load a program; give the end, or what was thrown."""
        self._text = program
        self.memory.write(self.pointers.request, b"'$replicate'(load).\0")
        self._limit = None
        self._drive(self.pointers.server, _Mode.ALL)
        message = self._messages.pop()
        if message[0] == _END:
            self.restart()
        return message

    def abandon(self) -> None:
        """Stop a stream that an earlier transaction left behind."""
        if self.pointers.streaming:
            self._stop(self.pointers.server)
            self._keep(attrs.evolve(self.pointers, streaming=False))

    def restart(self) -> None:
        """Start the serving query anew: a query takes some flags over when it's started, and programs set them."""
        self.guest.call("pl_done", self.pointers.server)
        self._keep(attrs.evolve(self.pointers, server=self._open_server()))

    # -- how -----------------------------------------------------------------------------------------------------------

    def _keep(self, pointers: _Pointers) -> None:
        self.pointers = pointers
        self.guest.state[_KEY] = attrs.astuple(pointers)

    def _write(self, request: bytes) -> None:
        request += b"\n.\0"
        if len(request) > _REQUEST_BYTES:
            self._text = request[:-1]
            request = b"'$replicate'(text).\0"
        self.memory.write(self.pointers.request, request)

    def _open_server(self, goal: int | None = None) -> int:
        scratch = self.pointers.scratch
        self.memory.pack("<I", scratch, 0)
        self.guest.call("pl_query", self.pointers.interpreter, goal or scratch + 8, scratch, 0)
        server: int = self.memory.unpack("<I", scratch)[0]
        if not server:
            raise InterpreterError("the interpreter couldn't start another query: it's probably out of memory")
        return server

    def _stop(self, server: int) -> None:
        self._stopping = True
        try:
            self.guest.call("pl_redo", server)
        finally:
            self._stopping = False

    def _drive(self, server: int, mode: _Mode) -> None:
        """Resume a server until it has settled what it was asked."""
        self._messages.clear()
        self._mode = mode
        self._settled = False
        previous, output.current.output = output.current.output, self._output
        try:
            while True:
                alive = self.guest.call("pl_redo", server)
                if self._settled:
                    if self._lost:
                        raise self._ended()
                    return
                # It may have stood still by itself: sleep/1, yield/0.
                if not alive or not self.guest.call("pl_did_yield", server):
                    raise self._ended()
        except BaseException:
            self.broken = True
            raise
        finally:
            output.current.output = previous
            self._text = None

    def _ended(self) -> InterpreterError:
        out, err = self._output.take()
        said = (out + err).decode("utf-8", "replace").strip()
        if self._lost or "memory" in said:
            return InterpreterError(f"the interpreter ran out of memory{': ' if said else ''}{said:.200}")
        return InterpreterError(
            "the goal ended the interpreter (halt/0?) or left it without memory, so there's no answer"
            + (f"; it wrote {said:.200!r}" if said else "")
        )

    # -- calls from the guest ------------------------------------------------------------------------------------------

    def answer_call(self, message: int, size: int, reply: int, reply_size: int) -> int:
        """Answer ``$host_call/2``. What it raises would end the guest's call half-way, so it only takes things down."""
        if not self.pointers.request and size == _REQUEST_BYTES:
            self.pointers = attrs.evolve(self.pointers, request=message)
            return _FALSE
        data = self.memory.read(message, size)
        if data[:1] == b"[":
            if b"[8," in data and data[1:2] == b"1":
                self._text = b"constraints"
                return self._send_text(reply, reply_size)
            go_on = self._take(data)
        elif data == b"text":
            return self._send_text(reply, reply_size)
        elif data == b"lost":
            self._settled = self._lost = True
            return _FALSE
        elif data == b"next":
            return self._succeed(reply_size) if self._stopping else _FALSE
        else:
            return _ERROR
        return self._succeed(reply_size) if go_on else _FALSE

    def _take(self, data: bytes) -> bool:
        collected = self._output
        out, err = collected.take() if collected.out or collected.err else (b"", b"")
        self._messages.append((data, out, err))
        if is_answer(data) and self._mode is _Mode.ALL and (self._limit is None or len(self._messages) < self._limit):
            return True
        self._settled = True
        return False

    def _succeed(self, reply_size: int) -> int:
        # The guest takes the reply's length even where there's none.
        self.memory.pack("<I", reply_size, 0)
        return _TRUE

    def _send_text(self, reply: int, reply_size: int) -> int:
        text, self._text = self._text, None
        if text is None:
            return _ERROR
        at = self.guest.call("canonical_abi_realloc", 0, 0, 1, len(text)) & _MASK
        self.memory.write(at, text)
        self.memory.pack("<I", reply, at)
        self.memory.pack("<I", reply_size, len(text))
        return _TRUE
