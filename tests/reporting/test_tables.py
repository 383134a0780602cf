from typing import Any

from gossamer.records.record import Published, PublishedFigure
from gossamer.reporting.results import Results
from gossamer.reporting.tables import arm_table, not_run, published_tables, source_table

ONE_HOT = "one_hot_attack_accuracy"


def figure(arm: str, level: float, value: float, measure: str = "test_accuracy") -> PublishedFigure:
    return PublishedFigure(arm=arm, measure=measure, level=level, value=value)


def publish(*figures: PublishedFigure) -> Published:
    return Published(source="A study.", figures=figures)


def test_few_levels_are_listed_a_line_each(make_run: Any) -> None:
    made = make_run(
        {("weight", 0.975): [0.9, 0.92]},
        published=publish(figure("weight", 0.975, 0.92), figure("weight", 0.92, 0.99)),
    )
    (table,) = published_tables(made.results)
    assert table.sections[0].title == "Test accuracy, %"
    first, second = table.sections[0].rows
    assert first[:3] == ("Weight pruning", "97.5%", "92.00")
    assert first[4] == "−1.00"
    assert second == ("Weight pruning", "92%", "99.00", "not run", "–")


def test_published_arms_that_are_not_run_are_named(make_run: Any) -> None:
    made = make_run(
        {("weight", 0.9): [0.9, 0.92]},
        published=publish(figure("whole", 0.0, 0.91), figure("whole", 0.5, 0.57, ONE_HOT)),
    )
    assert published_tables(made.results) == []
    assert not_run(made.results) == [
        "whole, test accuracy: 91.00",
        "whole, attack accuracy as the published code computes it (defective): 57.00 (50%)",
    ]


def test_levels_that_are_not_run_stay_in_the_table(make_run: Any) -> None:
    levels = (0.1, 0.3, 0.5, 0.7)
    made = make_run(
        {("weight", 0.3): [0.9, 0.92], ("weight", 0.5): [0.9, 0.92]},
        published=publish(*(figure("weight", level, 0.9) for level in levels)),
    )
    (table,) = published_tables(made.results)
    assert [row[2] == "not run" for row in table.sections[0].rows] == [True, False, False, True]


def test_defective_figures_stand_beside_what_was_meant_and_the_floor(make_run: Any) -> None:
    levels = (0.0, 0.3, 0.5, 0.7)
    made = make_run(
        {("weight", level): [0.9, 0.9] for level in levels},
        published=publish(*(figure("weight", level, 0.57, ONE_HOT) for level in levels)),
    )
    attacked = {
        key: one.model_copy(
            update={
                "measures": {
                    **one.measures,
                    ONE_HOT: 0.58,
                    "best_threshold_attack_accuracy": 0.56,
                    "gap_attack_accuracy": 0.55,
                }
            }
        )
        for key, one in made.records.items()
    }
    (table,) = published_tables(Results(made.study, attacked))
    assert "as the published code computes it (defective)" in table.caption
    assert table.columns[1:] == (
        "published",
        "measured",
        "difference (points)",
        "what was meant (optimistic)",
        "floor",
    )
    assert table.sections[0].rows[1] == (
        "30%",
        "57.00",
        "58.00 ± 0.03",
        "+1.00",
        "56.00 ± 0.03",
        "55.00 ± 0.03",
    )


def test_masks_that_are_borrowed_have_their_sources_listed_once(
    make_run: Any, make_arm: Any
) -> None:
    source = {"data": "mnist", "seed_offset": 1000, "recipe": [{"step": "train", "epochs": 3}]}
    steps = ({"step": "transfer", "source": source}, {"step": "train", "epochs": 9})
    arms = tuple(make_arm(name=n, label=n, role="main", recipe=steps) for n in ("one", "two"))
    results = make_run({("one", 0.5): [0.9], ("two", 0.5): [0.9]}, arms).results
    table = source_table(results)
    assert table is not None
    assert table.sections[0].rows == (("source 1", "on mnist: train(epochs=3)"),)
    assert {row[2] for row in arm_table(results).sections[0].rows} == {
        "transfer(source=source 1) → train(epochs=9)"
    }
    assert source_table(make_run({("weight", 0.5): [0.9]}).results) is None
