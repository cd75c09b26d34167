"""The two families of Trealla modules: telling them apart, and starting them."""

from __future__ import annotations

import enum
from importlib import resources
from typing import TYPE_CHECKING

from replicate.errors import AdapterError, GuestExit
from replicate_trealla.mailbox import KEY, MASK
from replicate_trealla.session import REQUEST_BYTES, Pointers, Session

if TYPE_CHECKING:
    from replicate.handles import Guest

__all__ = ["Abi", "recognise", "start"]

_SERVE = b"'$replicate':serve.\0"
_SCRATCH_BYTES = 64


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
load(Module, Text) :- Module:'$load_chars'(Text).
json(Term, Text) :- user:write_term_to_chars(Term, {_OPTIONS}, Text).
residual(Names, Names, Goals) :- copy_term(Names, _, Goals).
""",
    Abi.PUSH: f"""
load(Module, Text) :- load_text(Text, [module(Module)]).
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


# -- starting ----------------------------------------------------------------------------------------------------------


def start(guest: Guest) -> None:
    """Start the interpreter and its serving query, on the leader; replicas get both as state."""
    abi = recognise(guest)
    try:
        guest.call("_start")
    except GuestExit as ended:
        if ended.code:
            raise AdapterError(f"Trealla ended with status {ended.code} when it was started") from ended
    interpreter = guest.call("pl_global") & MASK
    scratch = guest.call("canonical_abi_realloc", 0, 0, 1, _SCRATCH_BYTES) & MASK
    guest.memory.write(scratch + 8, _SERVE)
    session = guest.local[KEY] = Session(guest, Pointers(interpreter, scratch, 0, 0, False))
    driver = resources.files("replicate_trealla").joinpath("driver.pl").read_text("utf-8")
    program = f'{driver}{_SPECIFIC[abi]}request("{"." * REQUEST_BYTES}").\n'
    escaped = program.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    session.begin(f"{_LOAD[abi].format(escaped)}, '$replicate':first_serve.")
