"""`replicate bench` for any module: what it says, keeps, draws and refuses."""

from __future__ import annotations

import html.parser
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from replicate import Guest, Pool, ReplicateError, load_engine
from replicate.cli.bench import module_costs, rounds
from replicate.cli.bench.comparison import compare_results
from replicate.cli.bench.crowd import Crowd
from replicate.cli.bench.module_reads import measure_calls
from replicate.cli.bench.opening import Workers, place
from replicate.cli.bench.recorder import Recorder
from replicate.cli.bench.results import Result, load_result, save_result
from replicate.cli.bench.rounds import Pace
from replicate.cli.bench.slow_down import slowed_down
from replicate.cli.bench.subject import Call, Subject
from replicate.cli.files import load_module
from replicate.errors import EngineUnavailableError

sys.path.insert(0, str(Path(__file__).parent))
from bench_support import made_up, noisy

Run = Callable[..., Any]
TINY = Pace(batch_seconds=1e-6, batches=1, crowd_seconds=1e-4, slice_seconds=1e-3, spins=1000, passes=2)
SMALL = ("--sizes", "1,2", "--threads", "3", "--rounds", "2")
LEAST = ("--sizes", "1", "--threads", "2", "--rounds", "1")
CALLS = ("--read", "get(1)", "--write", "put(1, 2)", "--call", "fill(10, 1)")
TRICKY = """(module
  (memory (export "memory") 1 1)
  (func (export "get") (result i32) (i32.load (i32.const 0)))
  (func (export "once") (if (i32.load (i32.const 0)) (then unreachable)) (i32.store (i32.const 0) (i32.const 1)))
  (func (export "fail") unreachable))"""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replicate.cli.bench.rounds.DEFAULT_PACE", TINY)
    monkeypatch.setattr(module_costs, "_SIZES", (1 << 20,))


@pytest.fixture
def tricky(tmp_path: Path) -> Path:
    path = tmp_path / "tricky.wat"
    path.write_text(TRICKY)
    return path


def one_line(text: str) -> str:
    return " ".join(text.replace("│", " ").split())


@pytest.mark.usefixtures("quick")
def test_measures_a_module_keeps_the_samples_and_draws_them(run: Run, kv_path: Path, tmp_path: Path) -> None:
    kept, page, pictures = tmp_path / "kv.json", tmp_path / "kv.html", tmp_path / "new" / "pictures"
    files = ("--json", str(kept), "--report", str(page), "--pictures", str(pictures))

    result = run("bench", str(kv_path), *CALLS, *SMALL, *files)

    assert (0, "") == (result.code, result.err)
    said = one_line(result.out)
    for expected in (
        "What a pool gives kv.wasm",
        "read, bare Instance.call",
        "write and the read after it, pool, reset on commit",
        "one instance behind a lock",
        "pool, reset each read, replicas 2",
        "half within 90 % 99 % 99.9 % all",
        "pool, beside a writer",
        "by dirty pages, in a guest of 1 MiB",
        "by the guest's size",
        "making a replica",
        "cores' worth of work to",
        "read get(1), write put(1, 2), before fill(10, 1)",
        "all threads read at once: pool of",
    ):
        assert expected in said
    fields = json.loads(kept.read_text())
    assert ("replicate bench", 1, "module") == (fields["kind"], fields["schema"], fields["benchmark"])
    assert {"cpu", "cores", "kernel", "python", "engine", "load_before", "load_after"} <= set(fields["machine"])
    assert all(len(each["samples"]) == 2 for each in fields["series"] if each["role"] in ("call", "crowd"))
    assert {each["passes"] for each in fields["series"]} == {2}
    _check_page(page.read_text())
    drawn = {path.name: ElementTree.parse(path).getroot() for path in pictures.iterdir()}
    expected = {"scaling.svg", "latency.svg", "commit-pages.svg", "commit-size.svg", "spawn.svg", "memory.svg"}
    assert expected == set(drawn)
    words = "".join(drawn["latency.svg"].itertext())
    assert "every read of one thread watched" in words
    assert "one instance behind a lock, beside a writer" in words


def _check_page(text: str) -> None:
    """Check that a page is well-formed, shows pictures and needs nothing from outside."""
    open_tags: list[str] = []
    seen: dict[str, int] = {}

    class Reader(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            assert not {"src", "href", "srcset", "action", "xlink:href"} & {name for name, _ in attributes}
            assert tag not in ("script", "link", "img", "iframe")
            seen[tag] = seen.get(tag, 0) + 1
            if tag not in ("meta", "li"):
                open_tags.append(tag)

        def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            seen[tag] = seen.get(tag, 0) + 1

        def handle_endtag(self, tag: str) -> None:
            if tag != "li":
                assert open_tags.pop() == tag

    Reader().feed(text)
    assert not open_tags
    assert seen["svg"] >= 4
    assert seen["circle"] > 10
    assert "url(" not in text
    assert "@import" not in text


@pytest.mark.usefixtures("quick")
def test_json_goes_to_standard_output_alone(run: Run, kv_path: Path) -> None:
    result = run("bench", str(kv_path), "--read", "get(1)", *SMALL, "--json", "-")

    fields = json.loads(result.out)
    assert ["without --write the cost of your writes, and reads beside a writer, weren't measured"] == fields["notes"]
    assert not [each for each in fields["series"] if "beside" in each["name"] or each["name"].startswith("write")]


@pytest.mark.usefixtures("quick")
def test_says_what_a_module_doesnt_let_it_measure(run: Run, tricky: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.wat"
    bare.write_text('(module (func (export "get") (result i32) (i32.const 1)))')

    fixed, without = (
        run("bench", str(tricky), "--read", "get()", *SMALL),
        run("bench", str(bare), "--read", "get()", *SMALL),
    )

    assert (0, 0) == (fixed.code, without.code)
    assert "the memory can't grow to 1 MiB" in one_line(fixed.out)
    assert "the module has no memory" in one_line(without.out)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--read", "nothing()"), 1, "--read 'nothing' can't be measured"),
        (("--read", "fail()"), 1, "--read 'fail' can't be measured"),
        (("--read", "once()"), 1, "--read 'once' can't be measured"),
        (("--read", "get(1)"), 1, "takes 0 argument(s)"),
        (("--read", "get()", "--write", "fail()"), 1, "--write 'fail' can't be measured"),
        (("--read", "get()", "--call", "fail()"), 1, "--call 'fail' can't be measured"),
        (("--read", "get"), 2, "isn't a call"),
        ((), 2, "what does a read of your module call"),
        (("--read", "get()", "--sizes", "0"), 2, "isn't a list of replicas"),
        (("--read", "get()", "--sizes", "1;2"), 2, "isn't a list of replicas"),
        (("--read", "get()", "--wasm", "x.wasm"), 2, "is for 'seed'"),
        (("--read", "get()", "--engine", "none"), 1, "none"),
        (("--read", "get()", "--report", "missing/x.html"), 1, "can't write 'missing/x.html': there's no folder"),
        (("--read", "get()", "--pictures", __file__), 1, "it's a file; give a folder"),
        (("--read", "get()", "--json", "."), 1, "can't write '.': it's a folder"),
        (("--read", "get()", "--compare", "missing.json"), 1, "can't read the result 'missing.json'"),
    ],
)
@pytest.mark.usefixtures("quick")
def test_wrong_input_is_explained(run: Run, tricky: Path, arguments: tuple[str, ...], code: int, message: str) -> None:
    result = run("bench", str(tricky), *arguments, *(() if "--sizes" in arguments else SMALL))

    assert code == result.code
    assert message in one_line(result.err)
    assert not result.out


def test_seed_has_its_own_queries(run: Run) -> None:
    result = run("bench", "seed", "--read", "get(1)")

    assert 2 == result.code
    assert "'seed' has its own queries" in one_line(result.err)


def test_a_module_that_needs_more_than_wasi_is_refused(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "needy.wat"
    path.write_text('(module (import "env" "f" (func)) (func (export "get")))')

    result = run("bench", str(path), "--read", "get()")

    assert 1 == result.code
    assert "imports env.f, which the command line can't give" in result.err
    assert "measure it in Python" in result.err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda fields: "nonsense", "isn't JSON"),
        (lambda fields: json.dumps([1]), "give what --json FILE has written"),
        (lambda fields: json.dumps({"schema": 1}), "give what --json FILE has written"),
        (lambda fields: json.dumps({**fields, "schema": 99}), "has schema 99, and this version reads 1"),
        (lambda fields: json.dumps({**fields, "series": 7}), "is a damaged result"),
        (lambda fields: json.dumps({**fields, "reference": []}), "is a damaged result"),
        (lambda fields: json.dumps({**fields, "series": fields["series"] * 2}), "is a damaged result"),
        (
            lambda fields: json.dumps({**fields, "series": [{**fields["series"][0], "samples": [-1.0] * 20}]}),
            "is a damaged result",
        ),
    ],
)
def test_what_is_no_result_is_refused(
    run: Run, tmp_path: Path, change: Callable[[dict[str, Any]], str], message: str
) -> None:
    path = tmp_path / "old.json"
    path.write_text(change(made_up({"one": noisy(1)}).as_json()))

    for arguments in ((str(path),), ("seed", "--compare", str(path))):
        result = run("bench", *arguments)
        assert 1 == result.code
        assert message in result.err


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    written = made_up({"one": [float(f"{sample:.6g}") for sample in noisy(1)]})
    save_result(written, path)

    assert written == load_result(path)


def test_kept_results_are_shown_and_compared_again(run: Run, tmp_path: Path) -> None:
    names = ["steady", "slow <b>[bold]"]
    old, new, page = tmp_path / "old.json", tmp_path / "new.json", tmp_path / "page.html"
    save_result(made_up({name: noisy(number) for number, name in enumerate(names)}), old)
    save_result(made_up({name: noisy(9 + number, factor=1 + number) for number, name in enumerate(names)}), new)

    same, worse = (
        run("bench", str(old), "--compare", str(old)),
        run("bench", str(new), "--compare", str(old), "--report", str(page)),
    )

    assert (0, 3) == (same.code, worse.code)
    assert "of 2 series 0 slower, 0 faster, 2 no change, 0 too noisy to tell" in same.out
    assert "of 2 series 1 slower" in worse.out
    assert "calls: slow <b>[bold]" in worse.out
    assert "slow &lt;b&gt;[bold]" in page.read_text()
    assert "slow <b>" not in page.read_text()


def test_a_threshold_above_the_change_lets_it_pass(run: Run, tmp_path: Path) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    save_result(made_up({"one": noisy(1)}), old)
    save_result(made_up({"one": noisy(2, factor=1.3)}), new)

    assert 3 == run("bench", str(new), "--compare", str(old)).code
    assert 0 == run("bench", str(new), "--compare", str(old), "--threshold", "50").code


def test_runs_of_other_calls_arent_compared(run: Run, tmp_path: Path) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    save_result(made_up({"one": noisy(1)}), old)
    save_result(made_up({"one": noisy(2)}, subject={"file": "kv.wasm", "read": "sum()"}), new)

    result = run("bench", str(new), "--compare", str(old))

    assert 1 == result.code
    assert "the subject 'read' was 'get(1)' then and is 'sum()' now" in result.err


class _ImaginedTime:
    """Be a clock that only guest calls move, each by about a microsecond."""

    def __init__(self, seed: int, factor: float) -> None:
        self.now = 0.0
        self._draw = random.Random(seed)
        self._factor = factor

    def read(self) -> float:
        self.now += 1e-9
        return self.now

    def spend(self) -> None:
        self.now += 1e-6 * self._factor * (1 + abs(self._draw.gauss(0, 0.03)))


def _measured(kv_path: Path, monkeypatch: pytest.MonkeyPatch, *, seed: int, factor: float) -> Result:
    """Measure real pools whose guest calls take imagined time, `factor` times as much as they should."""
    imagined, genuine = _ImaginedTime(seed, factor), Guest.call

    def call(self: Guest, name: str, *args: Any) -> Any:
        imagined.spend()
        return genuine(self, name, *args)

    with monkeypatch.context() as patch:
        patch.setattr(rounds, "clock", imagined.read)
        patch.setattr(rounds, "spin", lambda count: 1e-3)
        patch.setattr(rounds, "_MOST_CALLS", 20)
        patch.setattr(Guest, "call", call)
        subject = Subject(
            load_module(str(kv_path), "wasmtime"), place("wasmtime", None), Call("get", (1,)), Call("put", (1, 2)), ()
        )
        recorder = Recorder(load_engine("wasmtime"), Pace(rounds=20, batch_seconds=2e-5, spins=1000))
        for _ in recorder.passes():
            measure_calls(recorder, subject)
        return recorder.result("module", subject={}, settings={}, module="")


def test_a_slow_down_of_20_percent_in_the_call_path_is_flagged(kv_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _measured(kv_path, monkeypatch, seed=1, factor=1.0)
    again = _measured(kv_path, monkeypatch, seed=2, factor=1.0)
    slower = _measured(kv_path, monkeypatch, seed=3, factor=1.2)

    assert not compare_results(before, again, least=0.1).slower
    flagged = {each.series.name for each in compare_results(before, slower, least=0.1).slower}
    # All but the bare calls, which don't go through a guest handle.
    assert {each.name for each in before.series if "bare" not in each.name} == flagged


def test_the_deliberate_slow_down_takes_the_time_and_goes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def call(self: Guest, name: str, *args: Any) -> Any:
        calls.append(name)
        time.sleep(0.01)

    monkeypatch.setattr(Guest, "call", call)
    with Pool.open('(module (func (export "f")))', replicas=1) as pool:
        with slowed_down(3):
            began = time.perf_counter()
            pool.read(lambda guest: guest.call("f"))
            took = time.perf_counter() - began
        assert Guest.call is call
    assert ["f"] == calls
    assert took >= 0.03


def test_a_crowd_raises_what_a_thread_met_and_ends() -> None:
    def fail() -> None:
        raise ReplicateError("no")

    with pytest.raises(ReplicateError, match="no"), Crowd(3) as crowd:
        assert crowd.seconds(lambda: None, 2) > 0
        crowd.seconds(fail, 1)
    assert len(crowd._ended) == 3


def test_an_engine_says_where_its_instances_run() -> None:
    threads, processes = place("wasmtime", None), place("wasmtime", Workers.processes)

    assert {"engine": "wasmtime", "workers": "threads"} == threads.opening
    assert {"engine": "wasmtime", "workers": "processes"} == processes.opening
    assert threads.here
    assert processes.here


@pytest.mark.skipif(sys.platform != "linux", reason="worker processes are for Linux")
@pytest.mark.usefixtures("quick")
def test_measures_worker_processes(run: Run, kv_path: Path) -> None:
    result = run("bench", str(kv_path), *CALLS, *LEAST, "--workers", "processes", "--json", "-")

    fields = json.loads(result.out)
    assert "processes" == fields["settings"]["workers"]
    assert {"calls", "scaling", "latency"} == set(fields["groups"])


@pytest.mark.skipif(sys.platform != "linux", reason="worker processes are for Linux")
@pytest.mark.usefixtures("quick")
def test_measures_an_engine_that_only_workers_have(run: Run, kv_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(name: str) -> Any:
        raise EngineUnavailableError(f"{name} can't be imported here")

    monkeypatch.setattr("replicate.cli.bench.opening.load_engine", unavailable)
    result = run("bench", str(kv_path), "--read", "get(1)", *LEAST, "--workers", "processes")
    threads = run("bench", str(kv_path), "--read", "get(1)", *LEAST, "--workers", "threads")

    assert (0, "") == (result.code, result.err)
    assert "the one instance behind a lock is in a worker process too" in one_line(result.out)
    assert (1, "error: wasmtime can't be imported here\n") == (threads.code, threads.err)


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
def test_ctrl_c_ends_it(kv_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "replicate.cli", "bench", str(kv_path), "--read", "get(1)", "--rounds", "1000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert 130 == process.returncode
    assert err in ("", "error: interrupted\n")  # the former while it's still starting
