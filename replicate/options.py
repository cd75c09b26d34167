"""What may be given for each option of a pool: one table, looked at before anything is compiled."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from replicate.errors import PoolOptionError
from replicate.interfaces import Engine
from replicate.limits import is_amount
from replicate.snapshot import Snapshot
from replicate.wasi import Wasi

__all__ = ["check_option", "check_options"]


@attrs.frozen
class _Option:
    fits: Callable[[Any], bool]
    wanted: str
    """What to give, to follow the value that was given."""
    needed: bool = attrs.field(default=False, kw_only=True)
    """None isn't a way to leave it out."""


def _is_count(value: Any) -> bool:
    return is_amount(value) and value >= 1


def _is(*types: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, types)


def _one_of(*values: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in values


def _is_share(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(key, (str, int)) and not isinstance(key, bool) and isinstance(shared, bool)
        for key, shared in value.items()
    )


_COUNT = "give an int: a pool has at least 1"
_SWITCH = _Option(_is(bool), "give True or False", needed=True)
_OPTIONS = {
    "source": _Option(
        lambda value: not isinstance(value, type),
        "give an object of it, such as KeyValueAdapter(), or a path, the binary as bytes, or WAT text",
        needed=True,
    ),
    "engine": _Option(
        _is(str, Engine),
        "give the name of an engine, as replicate.engine_names() lists them, or an Engine",
        needed=True,
    ),
    "replicas": _Option(_is_count, _COUNT),
    "min_replicas": _Option(_is_count, _COUNT),
    "wasi": _Option(_is(Wasi), "give replicate.Wasi(...), with what the guest gets, or leave it out"),
    "init": _Option(callable, "give a function of the guest, or leave it out"),
    "run_start": _SWITCH,
    "snapshot": _Option(
        _is(Snapshot, str, os.PathLike), "give a Snapshot, or the path of a file that Snapshot.save wrote"
    ),
    "reset": _Option(_one_of("each_read", "on_commit"), "use 'each_read' (strict) or 'on_commit' (cheaper)"),
    "memory": _Option(_one_of("auto", "copy", "copy-on-write"), "use 'auto', 'copy' or 'copy-on-write'", needed=True),
    "share": _Option(
        _is_share,
        "give a mapping from memories (a name or an index) to whether they're shared: {'scratch': False}",
    ),
    "interruptible": _SWITCH,
    "max_memory": _Option(is_amount, "give bytes as an int, such as 64 << 20, or leave it out"),
    "max_table": _Option(is_amount, "give a number of elements as an int, or leave it out"),
    "name": _Option(_is(str), "give a string, or leave it out"),
    "workers": _Option(
        _one_of("threads", "processes"),
        "use 'threads', 'processes', or None for what's better with the engine",
    ),
}


def check_option(name: str, value: Any) -> None:
    """Raise `PoolOptionError` for a value that an option can't have, None among them."""
    option = _OPTIONS[name]
    if not option.fits(value):
        raise PoolOptionError(f"{name} is {value!r:.200}; {option.wanted}")


def check_options(**given: Any) -> None:
    """Check the options of `Pool.open`, those in the table; what else they depend on is for those who use them."""
    for name, value in given.items():
        option = _OPTIONS.get(name)
        if option is not None and (value is not None or option.needed):
            check_option(name, value)
