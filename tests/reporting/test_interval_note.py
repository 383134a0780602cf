from typing import Any

import pytest
from scipy import stats

from gossamer.reporting.answer import interval_note
from gossamer.reporting.page import report_page
from gossamer.reporting.results import Results

CELLS = {("dense", 0.0): [0.98, 0.98, 0.98, 0.98], ("weight", 0.5): [0.9, 0.8, 0.7, 0.8]}


def test_the_chance_of_the_test_set_is_said_beside_that_of_the_seeds(make_run: Any) -> None:
    found = interval_note(make_run(CELLS).results)
    ends = stats.binomtest(9800, 10_000).proportion_ci(method="wilson")
    half = 100 * (ends.high - ends.low) / 2
    assert found.endswith(
        "The 10,000 test examples are the same for all seeds, and the intervals cover the chance "
        "of the seeds, not of these: other test examples would move the 98.0% of the unpruned "
        "network by "
        f"± {half:.2f} points (95%, Wilson)."
    )


@pytest.mark.parametrize(("paired", "units"), [(False, "seeds"), (True, "pairs of seeds")])
def test_seeds_are_to_be_fixed_in_advance(make_run: Any, paired: bool, units: str) -> None:
    found = interval_note(make_run(CELLS, paired=paired).results)
    assert found.startswith(f"Every interval is for a number of {units} that was fixed in advance")
    assert f"adds {units} until it pleases" in found


def test_one_unit_has_no_interval_to_be_read(make_run: Any) -> None:
    single = {place: values[:1] for place, values in CELLS.items()}
    assert interval_note(make_run(single).results) == ""
    pair = {place: values[:2] for place, values in CELLS.items()}
    assert interval_note(make_run(pair, paired=True).results) == ""
    made = make_run(CELLS)
    assert interval_note(Results(made.study, {})) == ""


def test_it_stands_on_the_page_once(make_run: Any) -> None:
    made = make_run(CELLS)
    html = report_page(made.results, (), ())
    assert html.count("that was fixed in advance") == 1
