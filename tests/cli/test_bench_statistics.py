"""How `replicate bench --compare` tells change from noise."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import attrs
import pytest

from replicate import ReplicateError
from replicate.cli.bench.comparison import compare_results
from replicate.cli.bench.results import Result
from replicate.cli.bench.samples import growth_interval, holm, mann_whitney, percentile, summarise

sys.path.insert(0, str(Path(__file__).parent))
from bench_support import MACHINE, made_up, noisy

NAMES = [f"series {number}" for number in range(30)]


def runs(seed: int, *, factor: float = 1.0, **fields: Any) -> tuple[Result, Result]:
    """Give two runs, of which the second takes `factor` times as long."""
    old = made_up({name: noisy(seed * 1000 + number) for number, name in enumerate(NAMES)})
    new = {name: noisy(seed * 1000 + 500 + number, factor=factor) for number, name in enumerate(NAMES)}
    return old, made_up(new, **fields)


def share_of(verdict: str, old: Result, new: Result) -> float:
    """Give the share of series with that verdict."""
    changes = compare_results(old, new, least=0.1).changes
    return sum(each.verdict == verdict for each in changes) / len(changes)


def verdicts(old: Result, new: Result) -> set[str]:
    return {each.verdict for each in compare_results(old, new, least=0.1).changes}


@pytest.mark.parametrize("seed", range(4))
def test_an_unchanged_rerun_isnt_flagged(seed: int) -> None:
    assert not verdicts(*runs(seed)) & {"slower", "faster"}


@pytest.mark.parametrize("seed", range(4))
def test_a_slow_down_of_20_percent_is_flagged(seed: int) -> None:
    assert share_of("slower", *runs(seed, factor=1.2)) > 0.9


def test_a_speed_up_of_20_percent_is_told_too() -> None:
    assert share_of("faster", *runs(1, factor=1 / 1.2)) > 0.9


def test_changes_below_the_threshold_dont_count() -> None:
    old, new = runs(2, factor=1.2)

    assert not compare_results(old, new, least=0.5).slower


def test_one_slow_series_among_many_is_found_alone() -> None:
    old, new = runs(3)
    slow = attrs.evolve(new.series[7], samples=tuple(1.25 * sample for sample in new.series[7].samples))
    new = attrs.evolve(new, series=(*new.series[:7], slow, *new.series[8:]))

    assert ["calls: series 7"] == [each.series.key for each in compare_results(old, new, least=0.1).slower]


def test_what_only_slow_samples_show_is_noise() -> None:
    old = made_up({"one": noisy(1)})
    # As if another program had taken the core in two rounds of three.
    busy = [sample * (1.6 if number % 3 else 1.0) for number, sample in enumerate(noisy(2))]
    new = made_up({"one": busy})

    assert {"noise"} == verdicts(old, new)


def test_passes_that_disagree_are_noise_whatever_their_samples_say() -> None:
    old = made_up({"one": noisy(1)})
    new = made_up({"one": noisy(2, passes=2) + noisy(3, passes=2, factor=1.6)})

    assert {"noise"} == verdicts(old, new)


def test_a_slower_machine_explains_as_much_and_no_more() -> None:
    assert not verdicts(*runs(4, factor=1.2, speed=1.2)) & {"slower", "faster"}
    assert share_of("slower", *runs(4, factor=1.5, speed=1.2)) > 0.9


def test_a_faster_machine_excuses_nothing() -> None:
    assert share_of("slower", *runs(4, factor=1.2, speed=0.8)) > 0.9


def test_crowds_arent_compared_on_busy_cores() -> None:
    old = made_up({"one": noisy(1)}, role="crowd")
    slow = {"one": noisy(2, factor=2.0)}

    busy = compare_results(old, made_up(slow, role="crowd", others=0.4), least=0.1)

    assert ["noise"] == [each.verdict for each in busy.changes]
    assert "took 2% of the cores then and 40% now" in busy.warnings[0]
    assert {"slower"} == verdicts(old, made_up(slow, role="crowd"))


def test_few_samples_prove_nothing() -> None:
    few = made_up({"one": [1e-5] * 4}, passes=4), made_up({"one": [9e-5] * 4}, passes=4)

    assert {"noise"} == verdicts(*few)


def test_latencies_arent_compared_and_small_memory_is_all_one() -> None:
    latency = made_up({"one": noisy(1)}, role="latency"), made_up({"one": noisy(2, factor=3)}, role="latency")
    small = (
        made_up({"one": [0.0] * 8}, role="memory", unit="bytes"),
        made_up({"one": [20000.0] * 8}, role="memory", unit="bytes"),
    )
    large = (
        made_up({"one": [1e6] * 8}, role="memory", unit="bytes"),
        made_up({"one": [2e6] * 8}, role="memory", unit="bytes"),
    )

    assert not verdicts(*latency)
    assert {"no change"} == verdicts(*small)
    assert {"slower"} == verdicts(*large)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"benchmark": "seed"}, "different benchmarks, 'module' and 'seed'"),
        ({"subject": {"file": "kv.wasm", "read": "get(2)", "write": "", "before": ""}}, "'read' was 'get(1)' then"),
        (
            {"settings": {"threads": 7, "engine": "wasmtime", "workers": "threads"}},
            "'threads' was 100 then and is 7 now",
        ),
    ],
)
def test_runs_of_different_things_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ReplicateError, match="can't be compared") as caught:
        compare_results(made_up({"one": noisy(1)}), made_up({"one": noisy(2)}, **changed), least=0.1)

    assert message in str(caught.value)


def test_other_circumstances_are_pointed_out() -> None:
    old, new = made_up({"one": noisy(1)}), made_up({"two": noisy(2)}, module="11" * 32)
    new = attrs.evolve(new, machine={**MACHINE, "python": "CPython 3.13.0"})
    said = "\n".join(compare_results(old, new, least=0.1).warnings)

    for expected in (
        "python was CPython 3.11.7 then",
        "SHA-256",
        "2 series are in one",
    ):
        assert expected in said


def test_the_rank_test_gives_the_textbook_figures() -> None:
    assert 0.000183 == pytest.approx(mann_whitney(range(1, 11), range(11, 21)), rel=0.01)
    assert 1.0 == mann_whitney([1.0] * 9, [1.0] * 9)
    assert mann_whitney([1, 3, 5, 7, 9, 11], [2, 4, 6, 8, 10, 12]) > 0.5


def test_many_questions_are_corrected_for() -> None:
    assert [0.03, 0.06, 0.06] == pytest.approx(holm([0.01, 0.04, 0.03]))


def test_percentiles_lie_between_samples_by_proportion() -> None:
    assert [1.0, 2.5, 4.0] == [percentile([1, 2, 3, 4], share) for share in (0, 0.5, 1)]
    assert (3.0, 2.0, 4.0) == attrs.astuple(summarise([5, 1, 4, 2, 3]))


def test_the_interval_holds_the_truth_and_is_the_same_each_time() -> None:
    passes = [noisy(seed, passes=1) for seed in range(4)]
    later = [noisy(seed, passes=1, factor=1.3) for seed in range(4, 8)]
    found = growth_interval(passes, later)

    assert found.low < 1.3 < found.high
    assert found == growth_interval(passes, later)
