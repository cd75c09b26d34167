"""The oracle: a guest whose state is carried over snapshots does exactly what a lone instance does.

Compared are results and traps of every call, the calls that the guest makes of its host, snapshots, and the state that the
engine's primitives show. Carrying itself has to leave the host alone: no start function runs again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import attrs

from replicate.binary import ValType
from replicate.errors import NotReplicableError, ReplicateError, StateError
from replicate.snapshot import Snapshot
from replicate.testing.carriers import CARRIERS, Carrier, EngineCarrier, Lone, carrier_names
from replicate.testing.outcomes import Outcome, describe_host_calls
from replicate.testing.random_calls import Call, describe_value
from replicate.testing.subject import Subject

__all__ = ["Divergence", "DivergenceError", "Oracle"]

_SHOWN_CALLS = 60
_REFUSALS = (NotReplicableError, StateError)


@attrs.frozen
class Divergence:
    """Say where a carried guest first differs from a lone one."""

    calls: tuple[Call, ...]
    """The script, up to the call that differs."""
    outcomes: tuple[str, ...]
    """What the lone instance's calls gave, spelled."""
    carrier: str
    means: str
    every: int
    what: str
    """What differs, in a line."""
    details: tuple[str, ...] = ()
    """For states: one difference a line, the lone instance's value first."""

    def __str__(self) -> str:
        lines = [f"carried by {self.carrier!r} ({self.means}), the guest isn't what it is alone.", "Script:"]
        first = max(len(self.outcomes) - _SHOWN_CALLS, 0)
        lines += [f"  ... {first} calls ..."] * bool(first)
        lines += [f"  {at:3}. {text}" for at, text in enumerate(self.outcomes[first:], first + 1)]
        lines += ["  (no calls: it differs as soon as it has started)"] * (not self.outcomes)
        lines.append(f"Difference: {self.what}")
        lines += [f"  {detail}" for detail in self.details]
        return "\n".join(lines)


class DivergenceError(ReplicateError, AssertionError):
    """Report a guest that a carrier doesn't carry bit for bit; `divergence` is the shortest script found that shows it."""

    def __init__(self, divergence: Divergence, *notes: str) -> None:
        self.divergence = divergence
        super().__init__("\n".join([str(divergence), *notes]))


@attrs.define(eq=False)
class Oracle:
    """Compare a lone instance of a subject with carried ones.

    State is carried before the first call, then after every `every` calls, and at the end. A script ends at a call that
    takes more than `timeout` seconds; an engine that can't interrupt doesn't keep to that.
    """

    subject: Subject
    carriers: tuple[type[Carrier], ...] = attrs.field(kw_only=True)
    every: int = attrs.field(default=1, kw_only=True)
    timeout: float | None = attrs.field(default=5.0, kw_only=True)
    stopped: set[str] = attrs.field(factory=set, init=False)
    """The exports that a lone guest was stopped in, so far."""

    @classmethod
    def of(
        cls,
        subject: Subject,
        *,
        carriers: Sequence[str | type[Carrier]] | None = None,
        carrier_engine: str | None = None,
        every: int = 1,
        timeout: float | None = 5.0,
    ) -> Oracle:
        """Make an oracle.

        `carriers` are names (see `carrier_names`) or subclasses of `Carrier`; None are all that there are. `carrier_engine`
        names the engine that the carrier ``"engine"`` takes states through.
        """
        available = dict(CARRIERS)
        if carrier_engine is not None:
            other = subject.on(carrier_engine)
            available[EngineCarrier.name] = type("EngineCarrier", (EngineCarrier,), {"other": other})
        chosen = []
        for carrier in available if carriers is None else carriers:
            if isinstance(carrier, str):
                if carrier not in available:
                    hint = "; it needs a carrier_engine" if carrier == EngineCarrier.name else ""
                    raise ValueError(f"no carrier is called {carrier!r}{hint}; there are {', '.join(carrier_names())}")
                carrier = available[carrier]
            chosen.append(carrier)
        return cls(subject, carriers=tuple(chosen), every=every, timeout=timeout)

    def check(self, calls: Sequence[Call]) -> None:
        """Run a script; raise `DivergenceError` if a carrier shows, and what the lone guest's start raises."""
        divergence = self.find_divergence(calls)
        if divergence is not None:
            raise DivergenceError(divergence)

    def find_divergence(self, calls: Sequence[Call]) -> Divergence | None:
        """Run a script, and say where a carried guest first differs from the lone one; None if none does."""
        with ExitStack() as stack:
            return _Run(self, tuple(calls), stack).find()

    def only(self, carrier: str) -> Oracle:
        """Give an oracle with the one carrier of that name, or this one if it has none."""
        chosen = tuple(kind for kind in self.carriers if kind.name == carrier)
        return attrs.evolve(self, carriers=chosen) if chosen else self

    def is_deterministic(self, calls: Sequence[Call]) -> bool:
        """Tell whether two lone instances agree in a script: where they don't, carriers aren't to blame."""
        alone = attrs.evolve(self, carriers=(Lone,))
        return alone.find_divergence(calls) is None


class _Run:
    """Run one script on a lone instance and on every carrier, side by side."""

    def __init__(self, oracle: Oracle, calls: tuple[Call, ...], stack: ExitStack) -> None:
        self.oracle = oracle
        self.calls = calls
        self.types = oracle.subject.function_types()
        self.outcomes: list[str] = []
        self.done = 0
        self.lone = Lone(oracle.subject, oracle.timeout)
        stack.callback(self.lone.close)
        self.lone.open()
        self.carriers: list[Carrier] = []
        self.failed: Divergence | None = None
        # What the lone instance did in time, the others have more time for.
        patience = None if oracle.timeout is None else 4 * oracle.timeout
        for kind in oracle.carriers:
            carrier = kind(oracle.subject, patience)
            stack.callback(carrier.close)
            try:
                carrier.open()
            except Exception as error:
                self.failed = self.divergence(carrier, f"it can't start: {_spelled(error)}")
                return
            carrier.log.take()
            self.carriers.append(carrier)

    def find(self) -> Divergence | None:
        if self.failed is not None:
            return self.failed
        for at, call in enumerate(self.calls):
            if at % self.oracle.every == 0:
                divergence = self.carry()
                if divergence is not None:
                    return divergence
            ((_, expected),) = self.lone.call(call)
            self.done = at + 1
            kind = self.types.get(call.name)
            results, params = (kind.results, kind.params) if kind is not None else ((), ())
            given = ", ".join(describe_value(arg, param) for arg, param in zip(call.args, params, strict=False))
            self.outcomes.append(f"{call.name}({given}) -> {expected.describe(results)}")
            if expected.is_engine_limit:
                self.oracle.stopped |= {call.name} if expected.kind == "stopped" else set()
                return None
            for carrier in self.carriers:
                try:
                    outcomes = carrier.call(call)
                except _REFUSALS as error:
                    return self.divergence(carrier, f"the state can't be carried: {error}")
                except Exception as error:
                    return self.divergence(carrier, f"the call was lost: {_spelled(error)}")
                for where, outcome in outcomes:
                    if outcome.is_engine_limit:
                        return None
                    if outcome != expected:
                        return self.divergence(carrier, *_told(expected, outcome, where, results))
        return self.carry()

    def carry(self) -> Divergence | None:
        """Take every state through a snapshot, and compare it before and after."""
        past = self.calls[: self.done]
        try:
            expected, alone = self.lone.carry(past), self.lone.observe()
        except _REFUSALS as error:
            return self.divergence(self.lone, f"the state can't be carried: {error}")
        for carrier in self.carriers:
            try:
                snapshot = carrier.carry(past)
                host_calls = carrier.log.take()
                state = carrier.observe()
            except Exception as error:
                return self.divergence(carrier, f"carrying failed: {_spelled(error)}")
            if host_calls:
                return self.divergence(carrier, f"carrying called the host: {describe_host_calls(host_calls)}")
            details = alone.differences(state)
            if details:
                return self.divergence(carrier, "the state that the engine shows (alone | carried)", *details)
            if snapshot is not None and snapshot != expected:
                return self.divergence(carrier, "the snapshots", *_snapshot_differences(expected, snapshot))
        return None

    def divergence(self, carrier: Carrier, what: str, *details: str) -> Divergence:
        return Divergence(
            calls=self.calls[: self.done],
            outcomes=tuple(self.outcomes),
            carrier=carrier.name,
            means=carrier.means,
            every=self.oracle.every,
            what=what,
            details=details,
        )


def _told(expected: Outcome, outcome: Outcome, where: str, results: tuple[ValType, ...]) -> Iterator[str]:
    if (expected.kind, expected.value) != (outcome.kind, outcome.value):
        yield "what the last call gave"
        yield f"alone: {expected.describe(results)}"
        yield f"{where}: {outcome.describe(results)}"
    else:
        yield "what the last call asked of the host"
        yield f"alone: {describe_host_calls(expected.host_calls)}"
        yield f"{where}: {describe_host_calls(outcome.host_calls)}"


def _snapshot_differences(expected: Snapshot | None, snapshot: Snapshot) -> Iterator[str]:
    for field in attrs.fields(Snapshot):
        one, two = getattr(expected, field.name), getattr(snapshot, field.name)
        if one != two:
            yield f"{field.name}: {one!r:.200} | {two!r:.200}"


def _spelled(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
