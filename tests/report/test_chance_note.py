from typing import Any

import pytest

from gossamer.report.chance_note import chance_note
from gossamer.report.page import report_page
from gossamer.report.results import Results


def cells(dense: float) -> dict[tuple[str, float], list[float]]:
    return {("dense", 0.0): [dense, dense], ("weight", 0.5): [0.1, 0.1]}


def test_networks_at_chance_are_named_before_anything_is_said_of_them(make_run: Any) -> None:
    results = make_run(cells(0.109)).results
    note = chance_note(results)
    assert note.startswith("The test accuracy of dense is 10.9%, where guessing reaches 10.0%")
    html = report_page(results, (), ())
    assert html.index("guessing reaches 10.0%") < html.index("Dense</")


# A tenth of the way from the 10% that guessing reaches to 100% is 19%.
@pytest.mark.parametrize(("dense", "said"), [(0.1, True), (0.189, True), (0.191, False)])
def test_it_takes_a_tenth_of_the_way_to_have_learnt(
    make_run: Any, dense: float, said: bool
) -> None:
    assert bool(chance_note(make_run(cells(dense)).results)) == said


def test_nothing_is_said_before_anything_is_measured(make_run: Any) -> None:
    made = make_run(cells(0.1))
    assert chance_note(Results(made.study, {})) == ""
