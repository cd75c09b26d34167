"""Match what a host gives with what a module imports."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import attrs

from replicate.binary import FuncType, GlobalType, Import, MemoryType, ModuleInfo, TableType, TagType
from replicate.callables import does_nothing
from replicate.errors import ArgumentError, Finding, ImportTypeError, MissingImportError, NotReplicableError
from replicate.imports import Companion, CompanionFunction, HostFunction, HostGlobal, HostMemory, HostTable, Imports
from replicate.limits import is_amount
from replicate.values import value_to_bits

__all__ = [
    "Linkage",
    "LinkedFunction",
    "LinkedGlobal",
    "LinkedMemory",
    "LinkedTable",
    "LinkedTag",
    "check_imports",
    "check_state",
    "fit_function",
    "halved",
    "link",
]


@attrs.frozen
class LinkedFunction:
    """Be a host function that fits its import."""

    name: str
    type: FuncType
    fn: Callable[..., Any]
    caller: bool
    companion: CompanionFunction | None = None
    """What is called instead of `fn` by an engine that can."""


@attrs.frozen
class LinkedGlobal:
    """Be a global to make: `bits` for a number, `value` for a reference."""

    name: str
    type: GlobalType
    bits: int
    value: Any


@attrs.frozen
class LinkedMemory:
    """Be a memory to make."""

    name: str
    type: MemoryType


@attrs.frozen
class LinkedTable:
    """Be a table of nulls to make."""

    name: str
    type: TableType


@attrs.frozen
class LinkedTag:
    """Be an exception tag to make; all that matters of it is that it's the instance's own."""

    name: str
    type: TagType


Linked: TypeAlias = "LinkedFunction | LinkedGlobal | LinkedMemory | LinkedTable | LinkedTag"


@attrs.frozen
class Linkage:
    """Be the checked imports of one module, in its import section's order.

    Holds recipes and host functions, nothing that belongs to an instance: any number of instances can be made from it.
    """

    imports: tuple[Linked, ...]
    companions: tuple[tuple[Companion, tuple[tuple[int, LinkedFunction], ...]], ...] = ()
    """The companions among them, each with the functions it gives, by position."""

    @property
    def checks(self) -> tuple[Callable[[Mapping[str, Any]], tuple[Finding, ...]], ...]:
        """Give what the host functions ask to be checked before a commit, by an attribute ``check_replicable``.

        That's how WASI refuses descriptors that no replica could open, however its functions came in.
        """
        functions = (linked.fn for linked in self.imports if isinstance(linked, LinkedFunction))
        found = (getattr(function, "check_replicable", None) for function in functions)
        return tuple({check for check in found if check is not None})

    def memory_type(self, index: int, info: ModuleInfo) -> MemoryType:
        """Give the limits of a memory as it's made: those that were given for an imported one, else the declared ones."""
        given = [linked.type for linked in self.imports if isinstance(linked, LinkedMemory)]
        return given[index] if index < len(given) else info.memories[index]

    def table_type(self, index: int, info: ModuleInfo) -> TableType:
        """Give the limits of a table as it's made, likewise."""
        given = [linked.type for linked in self.imports if isinstance(linked, LinkedTable)]
        return given[index] if index < len(given) else info.tables[index]


def check_state(checks: Iterable[Callable[[Any], tuple[Finding, ...]]], state: Mapping[str, Any]) -> None:
    """Ask `Linkage.checks` about an instance's host-side state; raise `NotReplicableError` with what they find."""
    findings = [finding for check in checks for finding in check(state)]
    if findings:
        raise NotReplicableError(findings, what="this state can't be carried to a replica")


def check_imports(imports: Any) -> None:
    """Raise `ImportTypeError` for imports that aren't mappings in a mapping."""
    if not isinstance(imports, Mapping):
        raise ImportTypeError(f"imports are a mapping {{module: {{name: value}}}}, not {imports!r:.80}")
    for module, names in imports.items():
        if not isinstance(names, Mapping):
            raise ImportTypeError(f"imports[{module!r:.80}] is {names!r:.80}; give a mapping {{name: value}}")


def link(info: ModuleInfo, imports: Imports) -> Linkage:
    """Match `imports` with what the module declares.

    Tags, and memories and tables that aren't given, are made as declared; an import that the module doesn't have is
    ignored, so that one set of host functions serves many modules. Raises `MissingImportError` naming everything that is
    missing, and `ImportTypeError`.
    """
    check_imports(imports)
    linked: list[Linked] = []
    missing = []
    for wanted in info.imports:
        names = imports.get(wanted.module, {})
        if wanted.name in names:
            linked.append(_fit(wanted, names[wanted.name]))
        elif isinstance(wanted.type, MemoryType):
            linked.append(LinkedMemory(_name(wanted), wanted.type))
        elif isinstance(wanted.type, TableType):
            _check_null(_name(wanted), wanted.type)
            linked.append(LinkedTable(_name(wanted), wanted.type))
        elif isinstance(wanted.type, TagType):
            linked.append(LinkedTag(_name(wanted), wanted.type))
        else:
            missing.append(f"{wanted.kind} {_name(wanted)} of type {wanted.type}")
    if missing:
        wasi = "; WASI's own as wasi=Wasi()" if any(" wasi_" in item for item in missing) else ""
        raise MissingImportError(
            f"the module imports what wasn't given: {'; '.join(missing)}. "
            f"Give them in imports={{module: {{name: value}}}}{wasi}"
        )
    return Linkage(tuple(linked), _companions(linked))


def _companions(
    linked: Sequence[object],
) -> tuple[tuple[Companion, tuple[tuple[int, LinkedFunction], ...]], ...]:
    found: dict[Companion, list[tuple[int, LinkedFunction]]] = {}
    for position, value in enumerate(linked):
        if isinstance(value, LinkedFunction) and value.companion is not None:
            found.setdefault(value.companion.companion, []).append((position, value))
    return tuple((companion, tuple(uses)) for companion, uses in found.items())


def _name(wanted: Import) -> str:
    return f"{wanted.module}.{wanted.name}"


def _fit(wanted: Import, value: Any) -> Linked:
    name, kind = _name(wanted), wanted.type
    if isinstance(kind, FuncType):
        return fit_function(name, kind, value)
    if isinstance(kind, GlobalType):
        return _fit_global(name, kind, value)
    if isinstance(kind, MemoryType):
        if not isinstance(value, HostMemory):
            raise ImportTypeError(f"import {name} is a memory: give a HostMemory(minimum), or leave it out")
        _check_limits(name, kind.minimum, kind.maximum, value.minimum, value.maximum)
        maximum = kind.maximum if value.maximum is None else value.maximum
        return LinkedMemory(name, attrs.evolve(kind, minimum=value.minimum, maximum=maximum))
    if isinstance(kind, TableType):
        if not isinstance(value, HostTable):
            raise ImportTypeError(f"import {name} is a table: give a HostTable(minimum), or leave it out")
        _check_null(name, kind)
        _check_limits(name, kind.minimum, kind.maximum, value.minimum, value.maximum)
        maximum = kind.maximum if value.maximum is None else value.maximum
        return LinkedTable(name, attrs.evolve(kind, minimum=value.minimum, maximum=maximum))
    raise ImportTypeError(f"import {name} is a tag: leave it out, each instance gets one as declared")


def fit_function(name: str, kind: FuncType, value: Any) -> LinkedFunction:
    """Check a host function against the type that an import declares; raise `ImportTypeError`."""
    companion = value if isinstance(value, CompanionFunction) else None
    host = companion.fallback if companion else value if isinstance(value, HostFunction) else HostFunction(value)
    if not callable(host.fn):
        raise ImportTypeError(f"import {name} is a function {kind}: give a callable, not {type(value).__name__}")
    kind_of_fn = does_nothing(host.fn)
    if kind_of_fn is not None:
        raise ImportTypeError(
            f"import {name} is {kind_of_fn}, which does nothing when a guest calls it: give a plain function"
        )
    params, taken, fn = tuple(map(str, kind.params)), host.params, host.fn
    if host.legalised and companion is None and taken is not None and params != taken and params == halved(taken):
        params, fn = taken, _joining(fn, taken, caller=host.caller)
    for what, declared, wanted in (
        ("params", taken, params),
        ("results", host.results, tuple(map(str, kind.results))),
    ):
        if declared is not None and declared != wanted:
            raise ImportTypeError(
                f"import {name} is {kind} in the module, but the host function declares {what} ({', '.join(declared)})"
            )
    return LinkedFunction(name, kind, fn, host.caller, companion)


def halved(params: Sequence[str]) -> tuple[str, ...]:
    """Spell `params` with two i32 for each i64, as modules do that were built for hosts without 64-bit integers."""
    return tuple(half for kind in params for half in (("i32", "i32") if kind == "i64" else (kind,)))


def _joining(fn: Callable[..., Any], params: Sequence[str], *, caller: bool) -> Callable[..., Any]:
    """Give `fn` for a guest that passes each i64 as its lower half and then its upper one."""
    kinds = ("caller",) * caller + tuple(params)

    @functools.wraps(fn)
    def call(*args: Any) -> Any:
        given = iter(args)
        return fn(*[next(given) & 0xFFFFFFFF | next(given) << 32 if kind == "i64" else next(given) for kind in kinds])

    return call


def _fit_global(name: str, kind: GlobalType, value: Any) -> LinkedGlobal:
    initial = value.value if isinstance(value, HostGlobal) else value
    what = f"import {name}"
    if not kind.value.is_number:
        if initial is None and not kind.value.is_nullable:
            raise ImportTypeError(f"{what} is a global of type {kind.value}, which can't be null")
        if initial is not None and (not kind.value.is_extern or kind.value.is_null):
            raise ImportTypeError(f"{what} is a global of type {kind.value}: only None can be given for it")
        return LinkedGlobal(name, kind, 0, initial)
    try:
        return LinkedGlobal(name, kind, value_to_bits(initial, kind.value, what=what), None)
    except ArgumentError as error:
        raise ImportTypeError(str(error)) from error


def _check_null(name: str, kind: TableType) -> None:
    if not kind.element.is_nullable:
        raise ImportTypeError(
            f"import {name} is a table of {kind.element}, which can't be null: tables that a host makes are filled with null, "
            "so no host can give it"
        )


def _check_limits(name: str, least: int, most: int | None, minimum: int, maximum: int | None) -> None:
    if not is_amount(minimum) or not (maximum is None or is_amount(maximum)):
        raise ImportTypeError(f"import {name} got the limits {minimum!r:.40} and {maximum!r:.40}; give ints")
    if minimum < least:
        raise ImportTypeError(f"import {name} needs a minimum of {least}, and got {minimum}")
    if most is not None and (minimum > most or (maximum is not None and maximum > most)):
        raise ImportTypeError(f"import {name} allows a maximum of {most}, and got {minimum}..{maximum}")
    if maximum is not None and maximum < minimum:
        raise ImportTypeError(f"import {name} got a maximum of {maximum} below its minimum of {minimum}")
