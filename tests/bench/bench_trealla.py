"""What Prolog costs, alone and by a hundred threads: ``python tests/bench/bench_trealla.py [--wasm MODULE] [--by-length]``.

The module is npm's unless another is given. The baseline asks as Trealla's own hosts do, one ``pl_query`` for each query and
the answer out of the captured output or pushed, through wasmtime-py's public calls.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import statistics
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import wasmtime
from figures import Figure, best_of, show

from replicate import small_state
from replicate.cli.bench.crowd import Crowd
from replicate.cli.bench.seed import PROGRAM, WORKLOADS
from replicate.configuration import usable_cores
from replicate_trealla import Interpreter, Prolog, PrologPool
from replicate_trealla.fetch import module_path
from replicate_trealla.session import _FIRST, _HEADER, session_of

THREADS = 100
CALLS = 2000
FACT, HEAVIER, LONG = (workload.goal for workload in WORKLOADS)
TIMES = (10, 6, 2)
"""How often a crowd asks each in a round."""


class Baseline:
    """Ask through wasmtime-py's public calls."""

    def __init__(self, wasm: Path) -> None:
        engine = wasmtime.Engine()
        module = wasmtime.Module.from_file(engine, str(wasm))
        self.store = store = wasmtime.Store(engine)
        world = wasmtime.WasiConfig()
        world.argv = ["tpl", "--ns", "-q"]
        store.set_wasi(world)
        linker = wasmtime.Linker(engine)
        linker.define_wasi()
        self.pushes = False
        self.pushed: list[bytes] = []
        for wanted in module.imports:
            if wanted.module == "trealla":
                assert isinstance(wanted.type, wasmtime.FuncType)
                self.pushes |= wanted.name == "host-push-answer"
                fn = self._push if wanted.name == "host-push-answer" else lambda *_: 0
                linker.define(store, "trealla", str(wanted.name), wasmtime.Func(store, wanted.type, fn))
        exports = linker.instantiate(store, module).exports(store)
        names = ["pl_query", "pl_done", "pl_capture", "pl_capture_read", "pl_capture_free", "pl_global", "_start"]
        names += ["canonical_abi_realloc", "canonical_abi_free"]
        self.calls: dict[str, Any] = {name: exports[name] for name in names}
        self.memory: Any = exports["memory"]
        self._call("_start")
        self.pl = self._call("pl_global")
        self._call("pl_capture", self.pl)
        self.scratch = self._call("canonical_abi_realloc", 0, 0, 1, 32)
        load = "load_text({}, [module(user)])" if self.pushes else "user:'$load_chars'({})"
        self.once(load.format('"' + PROGRAM.replace("\n", "\\n") + '"'))

    def _call(self, name: str, *args: int) -> Any:
        return self.calls[name](self.store, *args)

    def _push(self, query: int, message: int, size: int) -> None:
        self.pushed.append(bytes(self.memory.read(self.store, message, message + size)))

    def once(self, goal: str) -> bytes:
        """Give the first answer as it's sent."""
        escaped = goal.replace("\\", "\\\\").replace('"', '\\"')
        text = (f"'$json_ask'(\"{escaped}\").\0" if self.pushes else f'js_ask("user:({escaped})").\0').encode()
        at = self._call("canonical_abi_realloc", 0, 0, 1, len(text))
        self.memory.write(self.store, text, at)
        more = self._call("pl_query", self.pl, at, self.scratch, 0)
        self._call("canonical_abi_free", at, len(text), 1)
        query = struct.unpack("<I", self.memory.read(self.store, self.scratch, self.scratch + 4))[0]
        self._call("pl_capture_read", self.pl, *range(self.scratch + 8, self.scratch + 24, 4))
        out, size = struct.unpack("<II", self.memory.read(self.store, self.scratch + 8, self.scratch + 16))
        said = bytes(self.memory.read(self.store, out, out + size))
        self._call("pl_capture_free", self.pl)
        self._call("pl_capture", self.pl)
        if more:
            self._call("pl_done", query)
        return self.pushed.pop() if self.pushes else said


def from_threads(crowd: Crowd, variants: list[Callable[[], object]], rounds: int, times: int) -> list[float]:
    """Give each variant's best seconds for all threads doing it once, the variants by turns."""
    best = [float("inf")] * len(variants)
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for position, variant in enumerate(variants):
                best[position] = min(best[position], crowd.seconds(variant, times))
    finally:
        gc.enable()
    return best


def exclusive(pool: PrologPool, rounds: int) -> float:
    """Give the median seconds for which a commit has the image for itself while all replicas are mid-read."""
    inside, go = threading.Barrier(pool.replicas + 1), threading.Event()

    def read(guest: Any) -> None:
        Interpreter(guest).query_once(HEAVIER)
        inside.wait(60)
        go.wait(60)

    readers = [threading.Thread(target=pool.pool.read, args=(read,)) for _ in range(pool.replicas)]
    for reader in readers:
        reader.start()
    inside.wait(60)
    image = pool.pool._core.image
    right, samples = image.commit, []

    def timed(*args: Any) -> Any:
        began = time.perf_counter()
        result = right(*args)
        samples.append(time.perf_counter() - began)
        return result

    image.commit = timed  # type: ignore[method-assign]
    for number in range(rounds):
        pool.execute(f"assertz(added({number}))")
    go.set()
    for reader in readers:
        reader.join()
    image.commit = right  # type: ignore[method-assign]
    return statistics.median(samples)


def _spin(count: int) -> float:
    began = time.perf_counter()
    total = 0
    for number in range(count):
        total += number
    return time.perf_counter() - began


def real_cores(cores: int) -> float:
    """Give how many cores' worth of work this many processes get done just now: a shared machine gives less than it says."""
    with multiprocessing.get_context("spawn").Pool(cores) as processes:
        processes.map(_spin, [1000] * cores)
        alone = min(processes.apply(_spin, (3_000_000,)) for _ in range(3))
        together = min(max(processes.map(_spin, [3_000_000] * cores, chunksize=1)) for _ in range(3))
    return cores * alone / together


def bare(single: Prolog, goal: str) -> Callable[[], object]:
    """Give what asks for a goal with the least Python that there can be: write the request, and call the guest once."""
    session = session_of(single._guest)
    mailbox, call, server = session._mailbox, single._guest.call, session.pointers.server
    request = goal.encode()
    assert mailbox is not None

    def ask() -> None:
        session._write(request)
        _HEADER.pack_into(mailbox, 0, _FIRST, 0, 1, 0)
        call("pl_redo", server)

    return ask


def opening(wasm: Path) -> tuple[float, float]:
    """Give the seconds that opening another pool takes here, and a first one in a new process."""
    here = []
    for _ in range(7):
        began = time.perf_counter()
        pool = PrologPool(wasm=wasm)
        here.append(time.perf_counter() - began)
        pool.close()
    code = (
        "import time; from replicate_trealla import PrologPool; began = time.perf_counter(); "
        f"PrologPool(wasm={str(wasm)!r}); print(time.perf_counter() - began)"
    )
    told = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(7)]
    return min(here), min(float(done.stdout) for done in told)


def figures(given: Path | None = None, rounds: int = 60) -> list[Figure]:
    """Measure, print what each figure is made of, and give those that have a goal."""
    wasm, cores = module_path(given), usable_cores()

    baseline, lock = Baseline(wasm), threading.Lock()
    single = Prolog(wasm=wasm, program=PROGRAM)
    pool = PrologPool(wasm=wasm, program=PROGRAM, replicas=cores)
    strict = PrologPool(wasm=wasm, program=PROGRAM, replicas=cores, reset="each_read")
    endless = PrologPool(wasm=wasm, program=PROGRAM, replicas=1, interruptible=False)
    eight = PrologPool(wasm=wasm, program=PROGRAM, replicas=8)
    assert b"123" in baseline.once(FACT)
    for one in (single, pool, strict, endless, eight):
        assert [one.query_once(workload.goal) for workload in WORKLOADS] == [workload.answer for workload in WORKLOADS]

    single.register("double/2", lambda x, y: 2 * x)

    def locked(goal: str) -> object:
        with lock:
            return single.query_once(goal)

    alone = best_of(
        [
            lambda: baseline.once(FACT),
            lambda: single.query_once(FACT),
            lambda: pool.query_once(FACT),
            lambda: strict.query_once(FACT),
            lambda: single.execute("assertz(added(1))"),
            lambda: eight.execute("assertz(added(1))"),
            bare(single, FACT),
        ],
        calls=20,
        rounds=rounds,
    )
    called = best_of([lambda: single.query_all(f"between(1, {CALLS}, _), double(1, _), fail")], calls=1, rounds=rounds)
    price = best_of([lambda: pool.query_once(LONG), lambda: endless.query_once(LONG)], calls=2, rounds=rounds)
    with Crowd(THREADS) as crowd:
        crowds = {
            workload.title: from_threads(
                crowd,
                [
                    lambda goal=workload.goal: locked(goal),  # type: ignore[misc]
                    lambda goal=workload.goal: pool.query_once(goal),  # type: ignore[misc]
                    lambda goal=workload.goal: strict.query_once(goal),  # type: ignore[misc]
                ],
                max(rounds // 6, 3),
                times,
            )
            for workload, times in zip(WORKLOADS, TIMES, strict=True)
        }
    real = real_cores(cores)
    here, elsewhere = opening(wasm)
    leader = eight.pool._core.leader
    assert leader is not None
    known = small_state.capture(leader)
    small = best_of([lambda: small_state.capture(leader, known=known)], calls=200)[0]
    held = exclusive(eight, rounds)

    names = ["baseline, wasmtime-py's calls", "Prolog", "PrologPool", "PrologPool, each_read", "an assertz, alone"]
    for name, seconds in zip([*names, "an assertz, to 8 replicas", "the guest alone"], alone, strict=True):
        print(f"{name:32} {seconds * 1e6:8.1f} us")
    for title, (once, replicated, reset) in crowds.items():
        print(
            f"{THREADS} threads, {title}: locked {once * 1e3:.2f} ms, pool {replicated * 1e3:.2f} ms, each_read {reset * 1e3:.2f} ms"
        )
    print(f"{cores} processes get {real:.2f} cores' worth of work done just now\n")

    found = [
        Figure("one-fact query through the pool, against the baseline", 3, alone[0] / alone[2]),
        Figure("the same, strict rule", 1, alone[0] / alone[3]),
        Figure("one-fact query through the pool, against the guest's own time", 2.2, alone[2] / alone[6], "at most"),
        Figure("calls of a Python predicate a second", 33_000, CALLS / called[0]),
    ]
    for title, (once, replicated, reset) in crowds.items():
        detail = f"{real:.2f} real cores"
        found.append(
            Figure(
                f"{THREADS} threads, {title}: pool against one locked", 0.9 * cores, once / replicated, detail=detail
            )
        )
        found.append(Figure("the same, strict rule", 1, once / reset, detail=detail))
    found += [
        Figure(f"{THREADS} threads ask for a fact", 2.8, crowds[WORKLOADS[0].title][1] * 1e3, "at most", "ms"),
        Figure("an assertz to 8 replicas, against one alone", 4, alone[5] / alone[4], "at most"),
        Figure("an assertz to 8 replicas", 0.3, alone[5] * 1e3, "at most", "ms"),
        Figure("commit's exclusive time, 8 replicas mid-read", 1, held * 1e3, "at most", "ms"),
        Figure("state other than memory, at a commit", 20, small * 1e6, "at most", "us"),
        Figure("opening a second pool", 30, here * 1e3, "at most", "ms"),
        Figure("opening a pool in a new process", 150, elsewhere * 1e3, "at most", "ms"),
        Figure("the price of being interruptible, nrev30", 1.15, price[0] / price[1], "at most"),
    ]
    return found


def by_length(wasm: Path, rounds: int) -> None:
    """Print what the two rules cost queries of several lengths, and what a pool of as many replicas as cores gives a crowd."""
    single = Prolog(wasm=wasm, program=PROGRAM)
    loose = PrologPool(wasm=wasm, program=PROGRAM, replicas=usable_cores())
    strict = PrologPool(wasm=wasm, program=PROGRAM, replicas=usable_cores(), reset="each_read")
    lock = threading.Lock()

    def locked(goal: str) -> object:
        with lock:
            return single.query_once(goal)

    with Crowd(THREADS) as crowd:
        for times in (1, 3, 10, 30, 100):
            goal = f"(between(1, {times}, _), nrev30(_), fail ; X = 1)"
            asks: list[Callable[[], object]] = [
                lambda goal=goal: locked(goal),  # type: ignore[misc]
                lambda goal=goal: loose.query_once(goal),  # type: ignore[misc]
                lambda goal=goal: strict.query_once(goal),  # type: ignore[misc]
            ]
            alone = best_of(asks[1:], calls=1, rounds=20)
            together = from_threads(crowd, asks, max(rounds // 15, 2), 1 + 5 // times)
            print(
                f"a query of {alone[0] * 1e3:6.2f} ms: each_read takes {alone[1] / alone[0] - 1:6.1%} longer; {THREADS} threads on "
                f"{loose.replicas} replicas against one locked: {together[0] / together[1]:.2f} x, each_read "
                f"{together[0] / together[2]:.2f} x"
            )
    for pool in (loose, strict):
        pool.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wasm", type=Path)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--by-length", action="store_true", help="only compare the two rules by the queries' length")
    options = parser.parse_args()
    if options.by_length:
        by_length(module_path(options.wasm), options.rounds)
        return 0
    return show(figures(options.wasm, options.rounds))


if __name__ == "__main__":
    sys.exit(main())
