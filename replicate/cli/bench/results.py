"""What a benchmark found, as values, and as the JSON that keeps them."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import attrs

from replicate.errors import ReplicateError
from replicate.outfiles import write_whole

__all__ = ["KIND", "SCHEMA", "Result", "Role", "Series", "Unit", "dump", "load_result", "save_result"]

KIND = "replicate bench"
SCHEMA = 1
"""Fields may be added within a schema number; one that goes, or means something else, makes a new number."""

Role = Literal["call", "crowd", "latency", "memory"]
"""How samples came about, which says what they may be compared with.

``call``: one thread, the best of some short batches. ``crowd``: many threads at once, which takes the cores there are.
``latency``: each a single read, for percentiles; not compared. ``memory``: bytes.
"""
Unit = Literal["s", "bytes"]


@attrs.frozen(kw_only=True)
class Series:
    """Hold the samples of one variant; less is better, whatever the unit.

    `group` is the experiment; `curve` and `x` say where the variant lies in its picture: which line, and how far right.
    """

    group: str
    name: str
    curve: str
    x: float | None = None
    role: Role = "call"
    unit: Unit = "s"
    passes: int = 1
    """The samples were taken in so many passes, as many in each, one pass after the other."""
    samples: tuple[float, ...]

    @property
    def by_pass(self) -> tuple[tuple[float, ...], ...]:
        """Give the samples of each pass."""
        length = len(self.samples) // self.passes
        return tuple(self.samples[start : start + length] for start in range(0, len(self.samples), length))

    def followed_by(self, later: Series) -> Series:
        """Give the series with the samples of a later pass."""
        return attrs.evolve(self, passes=self.passes + later.passes, samples=self.samples + later.samples)

    @property
    def key(self) -> str:
        """Name the series among all of a benchmark's."""
        return f"{self.group}: {self.name}"


@attrs.frozen(kw_only=True)
class Result:
    """Hold one run of a benchmark.

    `subject` says what was measured, and `settings` how: runs that differ in either can't be compared. `module` is the
    module's SHA-256. `reference` are the seconds of a plain Python loop, in each round; `cores` is how many cores' worth of
    work as many processes got done as there are cores, from time to time. `others` is the share of the cores that other
    programs took, in each round of each experiment, after `repeated` rounds in which they took too much were thrown away.
    `groups` gives the titles of the experiments.
    """

    benchmark: str
    subject: Mapping[str, str]
    settings: Mapping[str, Any]
    module: str
    machine: Mapping[str, Any]
    began: str
    seconds: float
    reference: tuple[float, ...]
    cores: tuple[float, ...]
    others: Mapping[str, tuple[float, ...]]
    repeated: int
    groups: Mapping[str, str]
    notes: tuple[str, ...]
    series: tuple[Series, ...]

    def in_group(self, group: str) -> tuple[Series, ...]:
        """Give the series of one experiment."""
        return tuple(each for each in self.series if each.group == group)

    def busy(self, group: str | None = None) -> float:
        """Give the share of the cores that other programs took, in half of an experiment's rounds or of all, at most."""
        chosen = self.others.values() if group is None else [self.others.get(group, (0.0,))]
        return statistics.median([share for shares in chosen for share in shares])

    def find(self, group: str, name: str) -> Series | None:
        """Give one series, None if it wasn't measured."""
        return next((each for each in self.series if (each.group, each.name) == (group, name)), None)

    def as_json(self) -> dict[str, Any]:
        """Give the fields as JSON has them; times have six digits."""
        fields = {"kind": KIND, "schema": SCHEMA, **attrs.asdict(self)}
        for name in ("reference", "cores"):
            fields[name] = _rounded(fields[name])
        fields["others"] = {group: _rounded(shares) for group, shares in self.others.items()}
        for each in fields["series"]:
            each["samples"] = _rounded(each["samples"])
        return fields


def _rounded(samples: tuple[float, ...]) -> list[float]:
    return [float(f"{sample:.6g}") for sample in samples]


def save_result(result: Result, path: Path) -> None:
    """Write the JSON; a list of samples takes a line."""
    write_whole(path, dump(result).encode(), what="the samples", error=ReplicateError)


def dump(result: Result) -> str:
    """Spell the JSON."""
    fields = result.as_json()
    long = {f"@{number}@": each["samples"] for number, each in enumerate(fields["series"])}
    for mark, each in zip(long, fields["series"], strict=True):
        each["samples"] = mark
    text = json.dumps(fields, indent=1)
    for mark, samples in long.items():
        text = text.replace(f'"{mark}"', json.dumps(samples), 1)
    return f"{text}\n"


def load_result(path: Path) -> Result:
    """Read a result; raise `ReplicateError` saying why a file isn't one that this version reads."""
    try:
        fields = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ReplicateError(f"can't read the result {str(path)!r}: {error.strerror or error}") from error
    except ValueError as error:
        raise ReplicateError(f"{str(path)!r} isn't a result of 'replicate bench': it isn't JSON ({error})") from error
    if not isinstance(fields, dict) or fields.get("kind") != KIND:
        raise ReplicateError(f"{str(path)!r} isn't a result of 'replicate bench': give what --json FILE has written")
    if fields.get("schema") != SCHEMA:
        raise ReplicateError(
            f"{str(path)!r} has schema {fields.get('schema')!r}, and this version reads {SCHEMA}: measure again"
        )
    try:
        return _result(fields)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ReplicateError(
            f"{str(path)!r} is a damaged result of 'replicate bench': {type(error).__name__} {error}; measure again"
        ) from error


def _result(fields: Mapping[str, Any]) -> Result:
    series = tuple(_series(each) for each in fields["series"])
    if len({each.key for each in series}) != len(series):
        raise ValueError("a series is there twice")
    return Result(
        benchmark=str(fields["benchmark"]),
        subject={str(name): str(value) for name, value in fields["subject"].items()},
        settings=dict(fields["settings"]),
        module=str(fields["module"]),
        machine=dict(fields["machine"]),
        began=str(fields["began"]),
        seconds=float(fields["seconds"]),
        reference=_samples(fields["reference"]),
        cores=_samples(fields["cores"]),
        others={str(group): _samples(shares, least=0.0) for group, shares in fields["others"].items()},
        repeated=int(fields["repeated"]),
        groups={str(name): str(title) for name, title in fields["groups"].items()},
        notes=tuple(map(str, fields["notes"])),
        series=series,
    )


def _series(fields: Mapping[str, Any]) -> Series:
    role, unit = fields["role"], fields["unit"]
    if role not in get_args(Role) or unit not in get_args(Unit):
        raise ValueError(f"unknown role or unit: {role!r}, {unit!r}")
    samples, passes = _samples(fields["samples"], least=0.0 if unit == "bytes" else 1e-12), int(fields["passes"])
    if passes < 1 or (role != "latency" and len(samples) % passes):
        raise ValueError(f"{len(samples)} samples in {passes} passes")
    return Series(
        group=str(fields["group"]),
        name=str(fields["name"]),
        curve=str(fields["curve"]),
        x=None if fields["x"] is None else float(fields["x"]),
        role=role,
        unit=unit,
        passes=passes,
        samples=samples,
    )


def _samples(values: Any, *, least: float = 1e-12) -> tuple[float, ...]:
    samples = tuple(map(float, values))
    if not samples or not all(math.isfinite(each) and each >= least for each in samples):
        raise ValueError("samples are missing, or aren't positive numbers")
    return samples
