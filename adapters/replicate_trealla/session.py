"""One guest handle's talk with its interpreter: requests, messages, and the calls the guest makes in between.

A query costs one guest call, ``pl_redo`` of the query that serves all others (see ``driver.pl``). Answers wait in a mailbox
of Wasm (``mailbox.wat``) for that call to return, or, on an engine that has no companions, call Python one by one. The
request is written into a string of the driver's, whose address, like all guest pointers the host keeps, lies in
``guest.state`` and is replicated with the guest: a stale one would give empty answers without an error.
"""

from __future__ import annotations

import enum
import itertools
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from replicate.errors import AdapterError, NestedTransactionError, ReplicateError, Trap, TrapCode
from replicate_trealla import output
from replicate_trealla.answers import is_answer
from replicate_trealla.calling import Calls, DistantCalls, calls_for, forget_calls
from replicate_trealla.errors import InterpreterError, OutOfMemoryError, PrologResourceError, StackOverflowError
from replicate_trealla.mailbox import ENDED, KEY, MAILBOX, MASK
from replicate_trealla.watch import CHANGED, REDO, REDO_CHANGED, REDO_REFUSED, REFUSED

if TYPE_CHECKING:
    from replicate.handles import Guest

__all__ = [
    "REQUEST_BYTES",
    "Message",
    "Pointers",
    "Session",
    "Status",
    "end_calls",
    "forget_session",
    "session_of",
]

REQUEST_BYTES = 4096

Message: TypeAlias = "tuple[bytes, bytes, bytes]"
"""What the driver sent, as JSON, and the standard output and error since the message before."""
_END = b"[0]"
_OVER = "this interpreter has ended: open a new one, or a new transaction of the pool"
_CALLS = (b"4", b"5", b"6")
"""What the messages that are about predicates of the host's begin with, after the bracket."""
_numbers = itertools.count(1)
"""For streams: never twice, so that one cut off by a roll back can't be taken for another."""
_ALL = MASK
"""A limit that isn't one."""
_LARGEST = 1 << 32
_FIRST = 16
_EXCHANGE, _EXCHANGE_BYTES = 0x40000, 0x10000
"""Where the mailbox has what predicates are called with, and what they reply."""
_HEADER = struct.Struct("<IIII")
_LENGTH = struct.Struct("<I")


class Status(enum.IntEnum):
    """Say what ``$host_call/2`` does: throw a ``system_error``, succeed, or fail."""

    ERROR = 0
    TRUE = 1
    FALSE = 2


def session_of(guest: Guest) -> Session:
    """Give the session on a guest handle, making one for a handle that's new."""
    local = guest.local
    session: Session | None = local.get(KEY)
    if session is not None and session.guest is guest:
        if session.inside:
            raise NestedTransactionError(
                "this interpreter is running the goal that called this function: it can't be asked another; return a Goal for "
                "it to call"
            )
        if session.broken:
            raise InterpreterError(_OVER)
        return session
    try:
        fields = guest.state[KEY]
    except KeyError:
        raise AdapterError("there's no started Trealla behind this guest handle: open it with TreallaAdapter") from None
    if fields == ENDED:
        raise InterpreterError(_OVER)
    if session is not None and session.pointers == fields:
        session.attach(guest)
    else:
        session = local[KEY] = Session(guest, Pointers._make(fields))
    if session.pointers.streaming:
        session.restart()  # an earlier transaction has left a stream behind
    return session


def forget_session(guest: Guest) -> None:
    """Forget what is known of a guest handle whose guest was restored."""
    guest.local.pop(KEY, None)


def end_calls(guest: Any) -> None:
    """Close what predicates have left open in a transaction that is about to end: those of streams that nobody has closed."""
    if not guest.is_alive:
        return
    forget_calls(guest)
    session: Session | None = guest.local.get(KEY)
    if session is not None:
        with suppress(Exception):
            session.abandon_calls()


class Pointers(NamedTuple):
    """Be what the host knows of the guest's memory; kept in ``guest.state`` as a plain tuple."""

    interpreter: int
    scratch: int
    request: int
    server: int
    """The query that serves."""
    streaming: bool
    """The server is in the middle of a stream, waiting to be told whether to go on."""


class Session:
    """Send requests to the interpreter behind one guest handle, and take its messages.

    Hazard: like the handle, it's for one thread at a time, and dies with the transaction, unless the next one attaches it.
    """

    __slots__ = (
        "_calls",
        "_catches",
        "_changed",
        "_err",
        "_first",
        "_flags_changed",
        "_limit",
        "_lost",
        "_mailbox",
        "_messages",
        "_notes",
        "_out",
        "_redo",
        "_refused",
        "_settled",
        "_stream",
        "_streams",
        "_text",
        "_unasked",
        "broken",
        "guest",
        "inside",
        "memory",
        "pointers",
    )

    def __init__(self, guest: Guest, pointers: Pointers) -> None:
        self.guest = guest
        self.memory = guest.memory
        self.pointers = pointers
        self.broken = False
        """A call ended half-way, so the guest can't be used until it's restored."""
        exports = guest.exports
        self._notes = CHANGED in exports
        self._redo = REDO if REDO in exports else "pl_redo"
        self._changed = 0
        """What the last call has told of what was changed."""
        self._unasked = False
        """Calls that don't tell what they change have been made."""
        self._refused = False
        self._mailbox = guest.companion_memory(MAILBOX, "mailbox")
        self._out: list[bytes] = []
        self._err: list[bytes] = []
        self._messages: list[Message] = []
        self._limit = _ALL
        self._settled = False
        self._lost = False
        self._flags_changed = False
        self._catches = "pl_capture_reset" in exports
        """Running out of memory can be caught."""
        self._text: bytes | None = None
        self._calls: Calls | DistantCalls | None = None
        self._stream = 0
        """Which of the streams is running, or did last; 0 for none of them."""
        self.inside = False
        """The guest is running."""
        self._streams: dict[int, tuple[int, bool]] = {}
        """Those that are read one message at a time, by number: their server, and whether it's one for this purpose only."""
        self._first: dict[int, Message] = {}

    def attach(self, guest: Guest) -> None:
        """Go on with the next handle on the same instance, whose state is that of the interpreter that this is about."""
        self.guest = guest
        self.memory = guest.memory
        self.broken = self.inside = False
        if self._calls is not None:
            self._streams.clear()
            with suppress(Exception):
                self.abandon_calls()
        for left in (self._streams, self._first, self._messages, self._out, self._err):
            if left:
                left.clear()
        self._text = None
        self._settled = self._lost = self._flags_changed = self._refused = False

    def take_changed(self) -> int:
        """Give what has been changed since this was last asked, as bits of `watch`'s.

        To be asked at the end of each step, or what a write has changed would look like a change by the reads that follow.
        """
        changed, self._changed = self._changed, 0
        if self._unasked and not self.broken:
            self._unasked = False
            if self._notes:
                changed |= self.guest.call(CHANGED)
        return changed

    def begin(self, goal: str) -> None:
        """Start the serving query, and all this is about, with a goal that loads the driver and goes on to serve."""
        text = goal.encode() + b"\0"
        at = self.guest.call("canonical_abi_realloc", 0, 0, 1, len(text)) & MASK
        self.memory.write(at, text)
        server = self._open_server(at)
        self.guest.call("canonical_abi_free", at, len(text), 1)
        if not self.pointers.request:
            raise AdapterError(
                "this Trealla couldn't load the adapter's driver: its version isn't known to work (0.23, 0.33)"
            )
        self._keep(self.pointers._replace(server=server))
        self.take_changed()

    # -- requests ------------------------------------------------------------------------------------------------------

    def collect(self, request: bytes, limit: int | None) -> list[Message]:
        """Run a request to its end, or until it has given `limit` answers, in one go; with 0, don't run it.

        Raises `InterpreterError` when the interpreter ended instead of saying how it went.
        """
        if limit == 0:
            return []
        server, spare = self._free_server()
        self._write(request)
        self._drive(server, _ALL if limit is None else min(limit, _ALL))
        if spare:
            self._end_server(server)
        messages, self._messages = self._messages, []
        calls = self._calls
        if calls is not None:
            if messages and messages[-1][0][1:2] == b"2":
                data, out, err = messages[-1]
                messages[-1] = (calls.trace(data), out, err)
            self.abandon_calls(0)
        return messages

    def abandon_calls(self, stream: int | None = None) -> None:
        """Close what predicates have left open, of a stream, of no stream (0), or all of it: no goal will go on with it."""
        calls = self._calls
        if not self._streams or stream is None:
            stream = self._calls = None
        if calls is not None:
            calls.close(stream)

    def begin_stream(self, request: bytes) -> int:
        """Begin to run a request answer by answer, the interpreter standing still between them; give its number.

        Other requests may come in between.
        """
        server, spare = self._free_server()
        if not spare:
            self._keep(self.pointers._replace(streaming=True))
        self._write(request)
        number = next(_numbers)
        self._streams[number] = (server, spare)
        # The request is where the next one will be written, so the first answer can't wait until it's asked for.
        self._drive(server, 1, stream=number)
        self._first[number] = self._messages.pop()
        return number

    def next_of_stream(self, number: int) -> Message | None:
        """Give a stream's next message, None if there's none; after the last the stream is gone."""
        if number not in self._streams:
            raise InterpreterError("this stream's answers are gone: the interpreter went back to what it was before")
        message = self._first.pop(number, None)
        if message is None:
            self._drive(self._streams[number][0], 1, stream=number)
            message = self._messages.pop()
        if not is_answer(message[0]):
            if self._calls is not None and message[0] != _END:
                message = (self._calls.trace(message[0]), *message[1:])
            self.stop_stream(number, ended=message[0] == _END)
        return message

    def stop_stream(self, number: int, *, ended: bool = False) -> None:
        """Stop a stream and free what it holds; `ended` if it has come to its end, and serves again.

        Raises `NestedTransactionError` while a goal runs: it may be the stream's own.
        """
        if self.inside:
            raise NestedTransactionError("a stream can't be stopped by a function that its interpreter is calling")
        server, spare = self._streams.pop(number, (0, True))
        self._first.pop(number, None)
        try:
            self.abandon_calls(number)
        finally:
            if server and not self.broken and self.guest.is_alive:
                if spare:
                    self._end_server(server)
                elif not ended or self._flags_changed:
                    self.restart()
                else:
                    self._keep(self.pointers._replace(streaming=False))

    def load(self, program: bytes, module: bytes = b"user") -> Message:
        """Load a program into a module, whose name needs no quotes; give the end, or what was thrown."""
        server, spare = self._free_server()
        self._text = program
        self.memory.write(self.pointers.request, b"'$replicate'(load(%s)).\0" % module)
        self._drive(server, _ALL)
        message = self._messages.pop()
        if spare:
            self._end_server(server)
            self._flags_changed = True
        elif message[0] == _END:
            self.restart()
        if self._calls is not None:
            message = (self._calls.trace(message[0]), *message[1:])
        return message

    def restart(self) -> None:
        """Start the serving query anew: to stop a stream, or because it has taken flags over that a program has changed."""
        self._end_server(self.pointers.server)
        self._keep(self.pointers._replace(server=self._open_server(), streaming=False))
        self._flags_changed = False

    # -- how -----------------------------------------------------------------------------------------------------------

    def _keep(self, pointers: Pointers) -> None:
        self.pointers = pointers
        self.guest.state[KEY] = tuple(pointers)

    def _write(self, request: bytes) -> None:
        request += b"\n.\0"
        if len(request) > REQUEST_BYTES:
            self._text = request[:-1]
            request = b"'$replicate'(text).\0"
        self.memory.write(self.pointers.request, request)

    def _check_memory(self) -> None:
        """Raise `OutOfMemoryError` after a goal that was refused memory and doesn't say so by throwing.

        In Trealla 0.23 the innermost ``catch/3`` fails then, and whatever comes after that is another branch. Newer ones throw
        what a goal may catch and see to; there only a goal without another answer is suspicious.
        """
        self._refused = False
        last = self._messages[-1][0] if self._messages else _END
        if last == _END or (is_answer(last) and not self._catches):
            raise OutOfMemoryError(
                f"the interpreter ran out of memory ({self.memory.size >> 20} of "
                f"{(self.memory.limit or _LARGEST) >> 20} MiB are taken), and went on as if a part of the goal had failed: "
                "give a larger max_memory"
            )

    def _reason(self, trap: Trap) -> PrologResourceError | None:
        """Give what a trap comes from, if it's a lack of something."""
        if trap.code is TrapCode.STACK_OVERFLOW:
            return StackOverflowError(
                "the goal's terms are nested too deep for the interpreter's own stack",
                code=trap.code,
                frames=trap.frames,
            )
        with suppress(ReplicateError):
            if self._refused or self.guest.call(REFUSED):
                return OutOfMemoryError("the interpreter was refused memory, and trapped: give a larger max_memory")
        return None

    def _free_server(self) -> tuple[int, bool]:
        """Give a query that can serve, and whether it's one for this purpose only."""
        return (self._open_server(), True) if self.pointers.streaming else (self.pointers.server, False)

    def _open_server(self, goal: int | None = None) -> int:
        self._unasked = True
        scratch = self.pointers.scratch
        self.memory.pack("<I", scratch, 0)
        self.guest.call("pl_query", self.pointers.interpreter, goal or scratch + 8, scratch, 0)
        server: int = self.memory.unpack("<I", scratch)[0]
        if not server:
            raise OutOfMemoryError("the interpreter couldn't start another query: it's probably out of memory")
        return server

    def _end_server(self, server: int) -> None:
        self._unasked = True
        self.guest.call("pl_done", server)

    def _drive(self, server: int, limit: int, *, stream: int = 0) -> None:
        """Resume a server until it has settled what it was asked, with `limit` answers at the latest."""
        self._messages.clear()
        self._limit = limit
        self._settled = False
        self._stream = stream
        mailbox = self._mailbox
        if mailbox is not None:
            _HEADER.pack_into(mailbox, 0, _FIRST, 0, limit, 0)
        current, call, redo = output.current, self.guest.call, self._redo
        previous, current.taker = current.taker, self
        self.inside = True
        try:
            while True:
                told = call(redo, server)
                if told > 1:
                    self._changed |= told >> REDO_CHANGED
                    self._refused |= told & REDO_REFUSED != 0
                if mailbox is not None:
                    self._empty(mailbox)
                if self._settled:
                    if self._lost:
                        raise self._ended()
                    if self._refused:
                        self._check_memory()
                    return
                # It may have stood still by itself: sleep/1, yield/0.
                if not told & 1 or not call("pl_did_yield", server):
                    raise self._ended()
        except BaseException as error:
            self.broken = True
            # Whoever catches this isn't to hand a dead interpreter on.
            with suppress(Exception):
                self.guest.state[KEY] = ENDED
            # An iterator that can't be closed properly mustn't hide why it's closed.
            with suppress(Exception):
                self.abandon_calls()
            reason = self._reason(error) if isinstance(error, Trap) else None
            if reason is not None:
                raise reason from error
            raise
        finally:
            current.taker = previous
            self.inside = False
            self._text = None

    def _empty(self, mailbox: memoryview) -> None:
        """Take the messages that wait in the mailbox; what the guest had written before goes with the first of them."""
        end, count, limit, settled = _HEADER.unpack_from(mailbox)
        if settled:
            self._settled = True
        if end == _FIRST:
            return
        at = _FIRST
        while at < end:
            (length,) = _LENGTH.unpack_from(mailbox, at)
            self._messages.append((bytes(mailbox[at + 4 : at + 4 + length]), *self._take_output()))
            at += 4 + length + 3 & -4
        _HEADER.pack_into(mailbox, 0, _FIRST, count, limit, settled)

    def wrote(self, data: bytes, *, error: bool) -> None:
        """Take what the guest writes."""
        if self._mailbox is not None:
            self._empty(self._mailbox)
        (self._err if error else self._out).append(data)

    def _take_output(self) -> tuple[bytes, bytes]:
        if not (self._out or self._err):
            return b"", b""
        out, err = b"".join(self._out), b"".join(self._err)
        self._out.clear()
        self._err.clear()
        return out, err

    def _ended(self) -> InterpreterError:
        out, err = self._take_output()
        said = (out + err).decode("utf-8", "replace").strip()
        if self._lost or "memory" in said:
            return OutOfMemoryError(f"the interpreter ran out of memory{': ' if said else ''}{said:.200}")
        return InterpreterError(
            "the goal ended the interpreter (halt/0?) or left it without memory, so there's no answer"
            + (f"; it wrote {said[:200]!r}" if said else "")
        )

    # -- calls from the guest ------------------------------------------------------------------------------------------

    def answer_call(self, message: int, size: int, reply: int, reply_size: int) -> int:
        """Answer ``$host_call/2``. What it raises would end the guest's call half-way, so it only takes things down."""
        if not self.pointers.request and size == REQUEST_BYTES:
            self.pointers = self.pointers._replace(request=message)
            return Status.FALSE
        data = self.memory.read(message, size)
        if self._mailbox is not None:
            self._empty(self._mailbox)
        if data[:1] == b"[":
            if data[1:2] in _CALLS:
                if self._text is not None:
                    return self._send_text(reply, reply_size)  # what didn't fit into the mailbox
                return self._send(self._call(data), reply, reply_size)
            if b"[8," in data and data[1:2] == b"1":
                self._text = b"constraints"
                return self._send_text(reply, reply_size)
            go_on = self._take(data)
        elif data == b"text":
            return self._send_text(reply, reply_size)
        elif data == b"lost":
            self._settled = self._lost = True
            return Status.FALSE
        else:
            return Status.ERROR
        return self._succeed(reply_size) if go_on else Status.FALSE

    def answer_predicate(self, size: int) -> int:
        """Call a predicate whose message is in the mailbox; give the reply's length, -1 to fail, -2 if it doesn't fit."""
        mailbox = self._mailbox
        assert mailbox is not None
        reply = self._call(bytes(mailbox[_EXCHANGE : _EXCHANGE + size]))
        if reply is None:
            return -1
        length = len(reply)
        if length > _EXCHANGE_BYTES:
            self._text = reply
            return -2
        mailbox[_EXCHANGE : _EXCHANGE + length] = reply
        return length

    def _call(self, data: bytes) -> bytes | None:
        """Call a Python function; what it does with other guests mustn't be taken for this one's."""
        calls = self._calls
        if calls is None:
            calls = self._calls = calls_for(self.guest)
        calls.stream = self._stream
        current = output.current
        taker = current.taker
        try:
            return calls.answer(data)
        finally:
            current.taker = taker

    def _take(self, data: bytes) -> bool:
        """Take a message that isn't for the mailbox, and decide as ``mailbox.wat`` does."""
        self._messages.append((data, *self._take_output()))
        if self._mailbox is not None:
            _HEADER.pack_into(self._mailbox, 0, _FIRST, len(self._messages), self._limit, 0)
        if is_answer(data) and len(self._messages) < self._limit:
            return True
        self._settled = True
        return False

    def _succeed(self, reply_size: int) -> int:
        # The guest takes the reply's length even where there's none.
        self.memory.pack("<I", reply_size, 0)
        return Status.TRUE

    def _send_text(self, reply: int, reply_size: int) -> int:
        text, self._text = self._text, None
        return Status.ERROR if text is None else self._send(text, reply, reply_size)

    def _send(self, text: bytes | None, reply: int, reply_size: int) -> int:
        if not text:
            return Status.FALSE if text is None else self._succeed(reply_size)
        at = self.guest.call("canonical_abi_realloc", 0, 0, 1, len(text)) & MASK
        self.memory.write(at, text)
        self.memory.pack("<I", reply, at)
        self.memory.pack("<I", reply_size, len(text))
        return Status.TRUE
