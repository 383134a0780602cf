from typing import Any

import pytest

from gossamer.reporting.answer import chance_note
from gossamer.reporting.page import report_page
from gossamer.reporting.results import Results


def cells(dense: float, weight: float = 0.1) -> dict[tuple[str, float], list[float]]:
    return {("dense", 0.0): [dense, dense], ("weight", 0.5): [weight, weight]}


def test_networks_at_chance_are_named_before_anything_is_said_of_them(make_run: Any) -> None:
    results = make_run(cells(0.109)).results
    note = chance_note(results)
    assert note.startswith("The highest test accuracy is 10.9% (dense), where guessing reaches 10")
    html = report_page(results, (), ())
    assert html.index("where guessing reaches 10.0%") < html.index("Dense</")


# A tenth of the way from the 10% that guessing reaches to 100% is 19%.
@pytest.mark.parametrize(
    ("dense", "weight", "said"),
    [(0.1, 0.1, True), (0.189, 0.1, True), (0.191, 0.1, False), (0.1, 0.191, False)],
)
def test_it_takes_one_network_a_tenth_of_the_way(
    make_run: Any, dense: float, weight: float, said: bool
) -> None:
    assert bool(chance_note(make_run(cells(dense, weight)).results)) == said


def test_every_dataset_is_asked_for_itself(make_run: Any) -> None:
    made = make_run(cells(0.98, 0.1))
    arms = tuple(
        arm.model_copy(update={"dataset": "fashion-mnist"}) if arm.name == "weight" else arm
        for arm in made.study.arms
    )
    note = chance_note(Results(made.study.model_copy(update={"arms": arms}), made.results.records))
    assert note.startswith("The highest test accuracy on fashion-mnist is 10.0%")


def test_nothing_is_said_before_anything_is_measured(make_run: Any) -> None:
    made = make_run(cells(0.1))
    assert chance_note(Results(made.study, {})) == ""
