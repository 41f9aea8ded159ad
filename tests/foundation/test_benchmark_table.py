"""The benchmark's table is honest, and its count of runs at once is right."""

from collections.abc import Mapping

import pytest

from benchmarks.fifty import at_once, grouped
from benchmarks.house import Run
from benchmarks.table import Reading, Row, markdown, read


def run(started: float, ended: float, tags: Mapping[str, str] | None = None) -> Run:
    return Run("run", 0.0, started, ended, {}, tags or {})


@pytest.mark.parametrize(
    ("ours", "theirs", "target", "said"),
    [([1.0], [4.0], 0.25, "met"), ([1.1], [4.0], 0.25, "**missed**"), ([1.0], [4.0], None, "")],
    ids=["just met", "missed", "no target"],
)
def test_a_target_of_a_ratio_is_met_or_missed(ours: list[float], theirs: list[float], target: float | None, said: str) -> None:
    assert Row("it", Reading(ours), "peer", Reading(theirs), target).cells()[-1] == said


def test_without_a_peer_the_target_is_for_our_own_median() -> None:
    assert Row("it", Reading([2.9, 9.0, 2.0]), target=3).met is True
    assert Row("it", Reading([3.1, 9.0, 2.0]), target=3).met is False


def test_a_peer_that_took_no_time_makes_no_ratio_and_misses() -> None:
    assert Row("it", Reading([1.0]), "peer", Reading([0.0]), 1).met is False


def test_a_reading_tells_median_spread_and_how_often() -> None:
    assert str(Reading([1.25, 1.0, 3.0])) == "1.25 s (1–3, 3×)"
    assert str(Reading([1070], "bytes")) == "1,070 bytes"


def test_rows_survive_the_results_file() -> None:
    for row in (Row("it", Reading([1.0], "MB"), "peer", Reading([2.0], "MB"), 1.3), Row("it", Reading([1.0]), target=3)):
        assert read(row.told()) == row


def test_the_markdown_names_the_machine() -> None:
    said = markdown([Row("it", Reading([2.0]), "peer", Reading([4.0]), 0.25)], {"cores": "2"})
    assert "| it | 2 s | peer: 4 s | 0.50 | ≤ 0.25 | **missed** |" in said
    assert said.endswith("Measured on: cores 2.")


def test_a_run_that_starts_when_another_has_just_ended_does_not_count_as_at_once() -> None:
    assert at_once([run(0, 2), run(2, 3), run(2.5, 4)]) == 2


def test_runs_at_once_are_counted_for_each_value_of_a_tag() -> None:
    runs = [run(0, 2, {"t": "a"}), run(1, 3, {"t": "a"}), run(1, 3, {"t": "b"})]
    assert sorted(at_once(group) for group in grouped(runs, "t")) == [1, 2]
    assert at_once(runs) == 3
