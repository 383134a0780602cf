import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from gossamer.records.record import Arm, Claim, ControlComparison
from gossamer.reporting.claims import JudgedClaim, JudgedComparison, claims_note, judged_claims
from gossamer.reporting.results import Results
from gossamer.stats.intervals import mean_interval
from gossamer.stats.power import smallest_detectable_difference, units_needed
from gossamer.stats.verdicts import claim_verdict, comparison_verdict
from paired_differences import paired_difference

BASE = [0.905, 0.907, 0.906, 0.904]
WIGGLE = [0.0001, -0.0002, 0.0, 0.0001]


def shifted(by: float, values: Sequence[float] = BASE, wiggle: float = 1.0) -> list[float]:
    return [round(value + by + wiggle * one, 9) for value, one in zip(values, WIGGLE, strict=False)]


def ends(row: JudgedComparison | None) -> tuple[float, float]:
    assert row is not None
    assert row.interval is not None
    assert row.interval.low is not None
    assert row.interval.high is not None
    return row.interval.low, row.interval.high


def mean_of(row: JudgedComparison) -> float:
    assert row.interval is not None
    return row.interval.mean


def claim(**given: Any) -> Claim:
    standard = {
        "name": "a",
        "text": "Sparsity costs no accuracy.",
        "says": "not-lower",
        "compare": "weight",
        "against": ("dense",),
        "margin": 0.005,
    }
    return Claim(**{**standard, **given})


@pytest.fixture
def judge(make_run: Any) -> Any:
    """Judge one claim, or several, about made-up accuracies."""

    def judged(cells: Any, *claims: Claim, **changes: Any) -> Any:
        made = make_run(cells, claims=claims, **changes)
        found = judged_claims(Results(made.study, made.records))
        return found[0] if len(found) == 1 else found

    return judged


CELLS = {
    ("dense", 0.0): BASE,
    ("weight", 0.3): shifted(0.001),
    ("weight", 0.5): shifted(-0.001),
    ("weight", 0.9): shifted(-0.03),
    ("unit", 0.3): shifted(-0.002, wiggle=-3),
    ("unit", 0.5): shifted(-0.02, wiggle=2),
}


def test_no_loss_is_supported_with_the_largest_that_the_intervals_admit(judge: Any) -> None:
    found = judge(CELLS, claim(levels=(0.3, 0.5)))
    assert found.verdict == "supported"
    worst = paired_difference(shifted(-0.001), BASE, 1 - 0.05 / 2)
    assert worst.low is not None
    assert found.comparisons[1].interval == worst
    assert found.evidence == (
        "Supported: at 30 and 50% sparsity the test accuracy of weight pruning is between 0.10 "
        "points below and 0.10 points above that of the unpruned network; the largest drop that "
        "the intervals "
        f"admit is {-100 * worst.low:.2f} points, less than the margin of 0.5."
    )


def test_one_level_refutes_what_is_claimed_of_each(judge: Any) -> None:
    found = judge(CELLS, claim(levels=(0.3, 0.5, 0.9)))
    assert found.verdict == "refuted"
    assert [row.verdict for row in found.comparisons] == ["supported", "supported", "refuted"]
    high = found.comparisons[2].interval.high
    assert found.evidence.endswith(
        "the smallest drop that the interval at 90% sparsity admits is "
        f"{-100 * high:.2f} points, more than the margin of 0.5."
    )


@pytest.mark.parametrize(
    ("given", "verdict", "ending"),
    [
        (
            {"says": "lower", "levels": (0.9,)},
            "supported",
            "3.00 points below that of the unpruned network; the smallest drop that the "
            "interval admits is "
            "2.98 points, more than the margin of 0.5.",
        ),
        (
            {"says": "lower", "levels": (0.5,)},
            "refuted",
            "0.10 points below that of the unpruned network; the largest drop that the interval "
            "admits is "
            "0.12 points, less than the margin of 0.5: there is a drop, but none that matters.",
        ),
        (
            {"says": "lower", "levels": (0.3,)},
            "refuted",
            "0.10 points above that of the unpruned network; the interval admits no drop.",
        ),
        (
            {"says": "higher", "levels": (0.3,), "margin": 0.0005},
            "supported",
            "0.10 points above that of the unpruned network; the smallest rise that the "
            "interval admits is "
            "0.08 points, more than the margin of 0.05.",
        ),
        (
            {"says": "higher", "levels": (0.3,), "margin": 0.0},
            "supported",
            "0.10 points above that of the unpruned network; the smallest rise that the "
            "interval admits is "
            "0.08 points, above zero.",
        ),
        (
            {"says": "higher", "levels": (0.3, 0.5), "margin": 0.01},
            "refuted",
            "between 0.10 points below and 0.10 points above that of the unpruned network; the "
            "largest rise "
            "that the intervals admit is 0.13 points, less than the margin of 1.",
        ),
        (
            {"says": "not-higher", "levels": (0.3, 0.5)},
            "supported",
            "between 0.10 points below and 0.10 points above that of the unpruned network; the "
            "largest rise "
            "that the intervals admit is 0.13 points, less than the margin of 0.5.",
        ),
        (
            {"says": "not-higher", "levels": (0.3,), "margin": 0.0},
            "refuted",
            "0.10 points above that of the unpruned network; the smallest rise that the "
            "interval admits is "
            "0.08 points, above zero.",
        ),
        (
            {"says": "on-par", "levels": (0.3, 0.5), "margin": 0.02},
            "supported",
            "between 0.10 points below and 0.10 points above that of the unpruned network; the "
            "largest "
            "difference that the intervals admit is 0.13 points, less than the margin of 2.",
        ),
        (
            {"says": "on-par", "levels": (0.3, 0.9), "margin": 0.02},
            "refuted",
            "between 3.00 points below and 0.10 points above that of the unpruned network; the "
            "smallest "
            "difference that the interval at 90% sparsity admits is 2.97 points, more than the "
            "margin of 2.",
        ),
        (
            {"says": "lower", "levels": (0.3, 0.9), "over": "any"},
            "supported",
            "between 3.00 points below and 0.10 points above that of the unpruned network; the "
            "smallest "
            "drop that the interval at 90% sparsity admits is 2.97 points, more than the margin of "
            "0.5.",
        ),
        (
            {"says": "lower", "levels": (0.3, 0.5), "over": "any"},
            "refuted",
            "between 0.10 points below and 0.10 points above that of the unpruned network; the "
            "largest drop "
            "that the intervals admit is 0.13 points, less than the margin of 0.5.",
        ),
        (
            {"says": "lower", "levels": (0.3, 0.9), "over": "mean"},
            "supported",
            "1.45 points below that of the unpruned network; the smallest drop that the "
            "interval admits is "
            "1.43 points, more than the margin of 0.5.",
        ),
    ],
)
def test_wording_of_what_is_decided(
    judge: Any, given: dict[str, Any], verdict: str, ending: str
) -> None:
    found = judge(CELLS, claim(**given))
    assert found.verdict == verdict
    opening, rest = found.evidence.split(" is ", 1)
    assert f"{rest}" == ending
    where = {1: "at", 2: "on average over"}[2 if given.get("over") == "mean" else 1]
    assert opening.startswith(f"{verdict.capitalize()}: {where} ")


@pytest.mark.parametrize(
    ("says", "margin", "by", "ending"),
    [
        ("higher", 0.001, 0, "neither shows nor excludes a rise of 0.1 points, the margin"),
        ("lower", 0.001, 0, "neither shows nor excludes a drop of 0.1 points, the margin"),
        ("not-lower", 0.001, 0, "neither shows nor excludes a drop of 0.1 points, the margin"),
        ("not-higher", 0.001, 0, "neither shows nor excludes a rise of 0.1 points, the margin"),
        ("on-par", 0.001, 0, "neither shows nor excludes a difference of 0.1 points, the margin"),
        ("higher", 0.0, 0, "neither shows nor excludes a rise"),
        (
            "higher",
            0.01,
            0.01,
            "shows a rise, but neither shows nor excludes one of 1 point, the margin",
        ),
    ],
)
def test_wording_of_what_is_left_open(
    judge: Any, says: str, margin: float, by: float, ending: str
) -> None:
    wide = {("dense", 0.0): BASE, ("weight", 0.3): shifted(by, wiggle=20)}
    found = judge(wide, claim(says=says, margin=margin))
    assert found.verdict == "undecided"
    (row,) = found.comparisons
    low, high = (f"{100 * end:+.2f}".replace("-", "−") for end in ends(row))
    assert f"; the interval reaches from {low} to {high} points, which " in found.evidence
    assert found.evidence.endswith(f", which {ending}.")


def test_undecided_levels_are_named(judge: Any) -> None:
    cells = {**CELLS, ("weight", 0.5): shifted(0.0, wiggle=40)}
    found = judge(cells, claim(levels=(0.3, 0.5)))
    assert found.verdict == "undecided"
    assert "; the interval at 50% sparsity reaches from " in found.evidence


STEP = math.sqrt(2 / 12) / 10_000
"""The standard deviation of a difference of two accuracies on 10,000 examples, by rounding."""


def test_equal_accuracies_are_equal_to_one_test_example_only(judge: Any) -> None:
    cells = {("dense", 0.0): BASE, ("weight", 0.3): BASE}
    found = judge(cells, claim(says="on-par", margin=0.02))
    reach = float(stats.t.ppf(0.975, 3)) * STEP / 2
    assert ends(found.comparisons[0]) == pytest.approx((-reach, reach))
    assert found.verdict == "supported"
    assert found.power.startswith(
        "Every seed gives exactly the same difference. That is no exactness: a step of the "
        "measure is 0.01 points, and the spread counts as that of rounding. 4 seeds tell a "
    )


def test_ties_of_two_seeds_on_few_examples_are_no_evidence(make_run: Any) -> None:
    # A rise of two examples out of 100 in both of two seeds.
    made = make_run(
        {("dense", 0.0): [0.9, 0.8], ("weight", 0.3): [0.92, 0.82]},
        claims=(claim(says="higher"),),
    )
    records = {
        key: one.model_copy(update={"measures": {**one.measures, "test_examples": 100}})
        for key, one in made.records.items()
    }
    (found,) = judged_claims(Results(made.study, records))
    assert found.verdict == "undecided"
    reach = math.tan(math.pi * 0.475) * 100 * STEP / math.sqrt(2)
    assert ends(found.comparisons[0]) == pytest.approx((0.02 - reach, 0.02 + reach))


def test_equal_differences_that_rounding_tells_apart_count_as_equal(judge: Any) -> None:
    cells = {("dense", 0.0): [0.9, 0.7, 0.3], ("weight", 0.3): [0.8, 0.6, 0.2]}
    found = judge(cells, claim(says="lower"))
    assert found.comparisons[0].tied
    assert found.comparisons[0].deviation == pytest.approx(STEP)
    assert found.verdict == "supported"


def test_what_is_counted_without_error_may_be_exactly_equal(judge: Any) -> None:
    cells = {("weight", 0.5): BASE, ("unit", 0.5): BASE}
    given = claim(against=("unit",), measure="nonzero_parameters", says="on-par", margin=1)
    found = judge(cells, given)
    assert ends(found.comparisons[0]) == (0, 0)
    assert found.evidence.endswith("; the interval admits no difference.")
    assert found.power == "Every seed gives exactly the same difference."


def test_one_seed_gives_a_number_and_no_verdict(judge: Any) -> None:
    cells = {key: values[:1] for key, values in CELLS.items()}
    found = judge(cells, claim(levels=(0.9,), says="lower"))
    assert found.verdict == "undecided"
    assert found.evidence == (
        "Undecided: at 90% sparsity the test accuracy of weight pruning is 2.99 points below "
        "that of the unpruned network; one seed gives a number, never a verdict."
    )
    assert found.power == "One seed says nothing about the spread between them."
    assert claims_note([found]) == ""


def test_pairs_are_the_units_where_seeds_are_paired(judge: Any) -> None:
    found = judge(CELLS, claim(levels=(0.5,)), paired=True)
    differences = [a - b for a, b in zip(shifted(-0.001), BASE, strict=True)]
    pairs = [(differences[0] + differences[1]) / 2, (differences[2] + differences[3]) / 2]
    assert found.comparisons[0].interval == mean_interval(pairs)
    assert found.power.startswith(
        "2 pairs of seeds tell a difference from the margin of 0.5 points four times out of five "
    )
    lone = judge({k: v[:2] for k, v in CELLS.items()}, claim(levels=(0.5,)), paired=True)
    assert lone.evidence.endswith("; one pair of seeds gives a number, never a verdict.")


def test_half_a_pair_is_no_unit(judge: Any) -> None:
    cells = {key: values[:3] for key, values in CELLS.items()}
    found = judge(cells, claim(levels=(0.5,)), paired=True)
    assert found.comparisons[0].interval.count == 1


def test_a_measure_that_nobody_measured(judge: Any) -> None:
    found = judge(CELLS, claim(measure="latency", says="lower"))
    assert found.verdict == "undecided"
    assert found.evidence == "Undecided: latency was not measured."
    assert found.power == ""
    matched = judge(CELLS, claim(matched_on="latency"))
    assert matched.evidence == "Undecided: latency was not measured."


def test_nothing_done_yet(make_run: Any) -> None:
    made = make_run(CELLS, claims=(claim(),))
    (found,) = judged_claims(Results(made.study, {}))
    assert found.evidence == "Undecided: what it compares is not measured yet."


def test_level_that_is_not_done_yet_leaves_each_undecided(make_run: Any) -> None:
    made = make_run(CELLS, claims=(claim(levels=(0.3, 0.5)),))
    done = {t.key for t in made.study.trials if (t.arm, t.level) != ("weight", 0.5)}
    records = {key: one for key, one in made.records.items() if key in done}
    (found,) = judged_claims(Results(made.study, records))
    assert found.verdict == "undecided"
    assert found.evidence.endswith(
        "; as far as it is measured, this supports the claim. Not measured yet: 50% sparsity."
    )


def test_refutation_of_all_waits_for_all(make_run: Any) -> None:
    made = make_run(CELLS, claims=(claim(says="lower", over="any", levels=(0.3, 0.5)),))
    done = {t.key for t in made.study.trials if (t.arm, t.level) != ("weight", 0.5)}
    records = {key: one for key, one in made.records.items() if key in done}
    (found,) = judged_claims(Results(made.study, records))
    assert found.verdict == "undecided"
    assert "; as far as it is measured, this refutes the claim. " in found.evidence


def test_mean_waits_for_all_of_its_levels(make_run: Any) -> None:
    made = make_run(CELLS, claims=(claim(over="mean", levels=(0.3, 0.5)),))
    done = {t.key for t in made.study.trials if (t.arm, t.level) != ("weight", 0.5)}
    records = {key: one for key, one in made.records.items() if key in done}
    (found,) = judged_claims(Results(made.study, records))
    assert found.evidence == "Undecided: what it compares is not measured yet."


def test_level_with_one_seed_is_said_to_have_one(make_run: Any) -> None:
    made = make_run(CELLS, claims=(claim(levels=(0.3, 0.5)),))
    lone = {
        trial.key
        for trial in made.study.trials
        if (trial.arm, trial.level) == ("weight", 0.5) and trial.seed
    }
    records = {key: one for key, one in made.records.items() if key not in lone}
    (found,) = judged_claims(Results(made.study, records))
    assert found.verdict == "undecided"
    assert found.evidence.endswith(" Measured with one seed only: 50% sparsity.")


def test_levels_that_a_scale_leaves_out_are_said(judge: Any) -> None:
    found = judge(CELLS, claim(levels=(0.1, 0.3, 0.4)))
    assert found.verdict == "supported"
    assert found.evidence.endswith(" Not run at this scale: 10 and 40% sparsity.")
    nothing = judge(CELLS, claim(levels=(0.1,)))
    assert (nothing.verdict, nothing.evidence) == (
        "undecided",
        "Undecided: nothing that it compares is run at this scale.",
    )
    mean = judge(CELLS, claim(levels=(0.1, 0.3, 0.5), over="mean"))
    assert mean.verdict == "supported"
    assert mean.evidence.startswith("Supported: on average over 30 and 50% sparsity ")
    assert mean.evidence.endswith(" Not run at this scale: 10% sparsity.")


def test_levels_are_the_same_however_they_were_computed(judge: Any) -> None:
    found = judge(CELLS, claim(levels=(0.1 + 0.2,), against=("weight",), against_level=0.3))
    assert found.comparisons[0].gap == ""


def test_several_arms_are_compared_at_every_level(judge: Any) -> None:
    found = judge(CELLS, claim(levels=(0.3, 0.5), against=("dense", "unit"), says="higher"))
    assert [(row.levels, row.against) for row in found.comparisons] == [
        ((0.3,), ("dense",)),
        ((0.5,), ("dense",)),
        ((0.3,), ("unit",)),
        ((0.5,), ("unit",)),
    ]
    assert "above that of the unpruned network and unit pruning; " in found.evidence
    assert (
        "that the intervals at 30 and 50% sparsity against the unpruned network and at 30% "
        "sparsity against unit "
        "pruning admit is 0.45 points, less"
    ) in found.evidence


def test_control_is_a_mean_with_an_interval_of_its_own(judge: Any) -> None:
    control = ControlComparison(compare="unit", against="dense", text="Units cost more.")
    found = judge(CELLS, claim(levels=(0.3, 0.5), control=control))
    differences = np.mean([CELLS["unit", 0.3], CELLS["unit", 0.5]], axis=0) - BASE
    expected = mean_interval(differences.tolist(), 0.95)
    low, high = ends(found.control_comparison)
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert found.control_comparison.verdict is None
    assert found.control == (
        "On average over 30 and 50% sparsity the test accuracy of unit pruning is 1.10 points "
        f"below that of the unpruned network, with an interval from −{-100 * low:.2f} to "
        f"−{-100 * high:.2f} points. Units cost more."
    )


def test_a_control_does_not_widen_the_intervals_of_the_claims(judge: Any) -> None:
    control = ControlComparison(compare="unit", against="dense", text="Units cost more.")
    alone = judge(CELLS, claim(levels=(0.3, 0.5)))
    beside = judge(CELLS, claim(levels=(0.3, 0.5), control=control))
    assert beside.comparisons == alone.comparisons


def test_control_that_shows_nothing_says_so(judge: Any) -> None:
    cells = {**CELLS, ("unit", 0.3): shifted(0.0001, wiggle=10)}
    control = ControlComparison(compare="unit", against="dense", text="Units cost more.")
    found = judge(cells, claim(levels=(0.3,), control=control))
    assert found.control.endswith("points, which cannot be told from none. Units cost more.")


def test_control_that_is_not_measured_or_not_run_says_so(judge: Any) -> None:
    absent = ControlComparison(
        compare="unit", against="dense", measure="latency", text="Units are faster."
    )
    found = judge(CELLS, claim(levels=(0.3,), control=absent))
    assert found.control == "Latency was not measured. Units are faster."
    elsewhere = ControlComparison(compare="random-unit", against="dense", text="Order matters.")
    found = judge(CELLS, claim(levels=(0.3,), control=elsewhere))
    assert found.control == "Nothing that it compares is run at this scale. Order matters."


def test_mirror_images_count_once(judge: Any) -> None:
    mirrored = judge(
        CELLS,
        claim(levels=(0.3,), against=("unit",), says="higher"),
        claim(name="b", levels=(0.3,), compare="unit", against=("weight",), says="lower"),
    )
    expected = paired_difference(CELLS["weight", 0.3], CELLS["unit", 0.3], 0.95)
    assert mirrored[0].comparisons[0].interval == expected
    assert expected.low is not None
    assert expected.high is not None
    assert ends(mirrored[1].comparisons[0]) == pytest.approx((-expected.high, -expected.low))
    apart = judge(
        CELLS,
        claim(levels=(0.3,), against=("unit",), says="higher"),
        claim(name="b", levels=(0.5,), compare="unit", against=("weight",), says="lower"),
    )
    wider = paired_difference(CELLS["weight", 0.3], CELLS["unit", 0.3], 1 - 0.05 / 2)
    assert apart[0].comparisons[0].interval == wider


def test_mirror_images_of_a_mean_count_once(judge: Any) -> None:
    levels = {"levels": (0.3, 0.5), "over": "mean"}
    one, other = judge(
        CELLS,
        claim(against=("unit",), **levels),
        claim(name="b", compare="unit", against=("weight",), **levels),
    )
    low, high = ends(one.comparisons[0])
    assert ends(other.comparisons[0]) == pytest.approx((-high, -low))
    alone = judge(CELLS, claim(against=("unit",), **levels))
    assert alone.comparisons[0].interval == one.comparisons[0].interval


def test_intervals_are_simultaneous_over_distinct_comparisons_of_all_claims(judge: Any) -> None:
    control = ControlComparison(compare="unit", against="dense", text="")
    first, second = judge(
        CELLS,
        claim(levels=(0.3, 0.5), control=control),
        claim(name="b", levels=(0.5, 0.9), says="lower"),
    )
    # Three places of one comparison, of which 50% is in both claims; the control does not count.
    expected = paired_difference(shifted(-0.001), BASE, 1 - 0.05 / 3)
    assert first.comparisons[1].interval == expected
    assert second.comparisons[0].interval == expected
    assert claims_note([first, second]).startswith("All intervals of the claims hold together")


def test_power_reaches_from_the_easiest_comparison_to_the_hardest(judge: Any) -> None:
    found = judge(CELLS, claim(levels=(0.3, 0.5), compare="unit", says="lower"))
    spreads = [np.std(np.subtract(CELLS["unit", level], BASE), ddof=1) for level in (0.3, 0.5)]
    seen = [smallest_detectable_difference(float(one), 4, 1 - 0.05 / 2) for one in spreads]
    assert found.power == (
        "4 seeds tell a difference from the margin of 0.5 points four times out of five if the "
        f"two are {100 * min(seen):.2f} to {100 * max(seen):.2f} points apart, depending on where."
    )


def test_power_never_asks_for_differences_that_there_cannot_be(judge: Any) -> None:
    wild = {("dense", 0.0): [0.2, 0.9], ("weight", 0.3): [0.9, 0.2], ("weight", 0.5): [0.21, 0.9]}
    alone = judge({at: wild[at] for at in (("dense", 0.0), ("weight", 0.3))}, claim())
    assert alone.power.startswith(
        "2 seeds are too few to tell any difference there can be from the margin of 0.5 points."
    )
    both = judge(wild, claim(levels=(0.3, 0.5)))
    assert " points apart or more, depending on where; somewhere no difference" in both.power
    sizes = judge(wild, claim(measure="test_loss", margin=0.01))
    assert " nats apart" in sizes.power  # a loss has no largest difference


def test_undecided_claim_says_how_many_seeds_it_would_need(judge: Any) -> None:
    cells = {("dense", 0.0): BASE, ("weight", 0.3): shifted(-0.001, wiggle=20)}
    found = judge(cells, claim())
    deviation = float(np.std(np.subtract(cells["weight", 0.3], BASE), ddof=1))
    mean = float(np.mean(np.subtract(cells["weight", 0.3], BASE)))
    needed = units_needed(deviation, 0.005 + mean, 0.95)
    assert needed is not None
    assert needed > 4
    assert found.power.endswith(
        f" To decide the claim would take about {needed} seeds, if means and spreads stay as "
        "they are."
    )


def test_one_level_that_refutes_needs_no_more_seeds_of_the_others(judge: Any) -> None:
    # The drop at 50% is 0.7 points, 0.2 beyond the margin; at 30% it lies at the margin nearly.
    cells = {
        ("dense", 0.0): BASE,
        ("weight", 0.3): shifted(-0.0049, wiggle=20),
        ("weight", 0.5): shifted(-0.007, wiggle=20),
    }
    found = judge(cells, claim(levels=(0.3, 0.5)))
    drops = np.subtract(cells["weight", 0.5], BASE)
    deviation, distance = float(np.std(drops, ddof=1)), -0.005 - float(np.mean(drops))
    needed = units_needed(deviation, distance, 1 - 0.05 / 2)
    assert found.verdict == "undecided"
    assert f"would take about {needed} seeds, " in found.power
    assert found.units_to_decide == needed
    # A claim about any of them is supported by one level, and refuted by all.
    either = judge(cells, claim(levels=(0.3, 0.5), over="any"))
    assert "would take more than 1,000 seeds, " in either.power


def test_networks_that_have_not_learnt_give_no_size(make_run: Any) -> None:
    def trained(name: str, label: str, *steps: dict[str, Any]) -> Arm:
        recipe = (*steps, {"step": "train", "epochs": 10})
        return Arm(
            name=name, label=label, role="main", dataset="mnist", network="mlp", recipe=recipe
        )

    arms = (
        trained("dense", "Dense"),
        trained("random", "Random from the start", {"step": "prune"}),
    )

    def judged(random: list[float], dense: Sequence[float] = (0.95, 0.96, 0.95)) -> JudgedClaim:
        made = make_run(
            {("dense", 0.0): [*dense], ("random", 0.9): random},
            claims=(claim(compare="random", says="lower"),),
        )
        study = made.study.model_copy(update={"arms": arms})
        return judged_claims(Results(study, made.records))[0]

    closed = judged([0.101, 0.1135, 0.098])
    assert closed.verdict == "undecided"
    assert closed.comparisons[0].interval is None
    assert closed.evidence == (
        "Undecided: no difference from an arm that has not learnt has a size: 3 networks of "
        "random from the start have not learnt: 11.3% at most, where guessing reaches 10.0%."
    )
    assert closed.power == ""
    mixed = judged([0.101, 0.9, 0.91])
    assert "1 of 3 networks of random from the start have not learnt" in mixed.evidence
    neither = judged([0.101, 0.9, 0.91], dense=(0.1, 0.95, 0.96))
    assert "1 of 3 networks of dense" in neither.evidence
    assert "1 of 3 networks of random" in neither.evidence
    assert judged([0.8, 0.81, 0.79]).verdict == "supported"


def test_networks_that_pruning_leaves_at_chance_are_what_it_made_of_them(judge: Any) -> None:
    cells = {("dense", 0.0): [0.95, 0.96, 0.95], ("weight", 0.9): [0.1, 0.11, 0.1]}
    assert judge(cells, claim(says="lower")).verdict == "supported"


def test_hopeless_claim_would_take_too_many_seeds(judge: Any) -> None:
    cells = {("dense", 0.0): BASE, ("weight", 0.3): shifted(-0.005, wiggle=30)}
    assert "would take more than 1,000 seeds, " in judge(cells, claim()).power


def test_lucky_guess_of_power_never_asks_for_the_seeds_that_there_are(judge: Any) -> None:
    cells = {("dense", 0.0): BASE[:3], ("weight", 0.3): shifted(0.0004)[:3]}
    found = judge(cells, claim(says="higher", margin=0.0007))
    assert found.verdict == "undecided"
    assert "take about 4 seeds" in found.power


def test_decided_claim_needs_no_more_seeds(judge: Any) -> None:
    found = judge(CELLS, claim(levels=(0.3, 0.9)))
    assert found.verdict == "refuted"
    assert "To decide" not in found.power
    assert found.units_to_decide is None


def test_matched_comparison_interpolates_the_other_curve(make_run: Any) -> None:
    cells = {
        ("dense", 0.0): [0.98, 0.97],
        ("weight", 0.5): [0.96, 0.95],
        ("unit", 0.25): [0.90, 0.92],
        ("unit", 0.5): [0.70, 0.74],
        ("unit", 0.9): [0.10, 0.12],
    }
    made = make_run(
        cells, claims=(claim(against=("unit",), matched_on="nonzero_parameters", says="higher"),)
    )
    results = Results(made.study, made.records)
    (found,) = judged_claims(results)
    # Weight and unit pruning at 50% have as many non-zero parameters here.
    expected = paired_difference([0.96, 0.95], [0.7, 0.74], 0.95)
    assert ends(found.comparisons[0]) == pytest.approx((expected.low, expected.high))
    assert found.comparisons[0].against_level is None
    assert "that of unit pruning at equal non-zero parameters; " in found.evidence


def test_matched_counts_are_interpolated_over_their_logarithm(make_run: Any) -> None:
    cells = {
        ("weight", 0.5): [0.96, 0.95],
        ("unit", 0.25): [0.90, 0.92],
        ("unit", 0.9): [0.10, 0.12],
    }
    made = make_run(
        cells, claims=(claim(against=("unit",), matched_on="nonzero_parameters", says="higher"),)
    )
    results = Results(made.study, made.records)
    (found,) = judged_claims(results)
    place, many, few = (
        results.values(arm, level, "nonzero_parameters")[0]
        for arm, level in (("weight", 0.5), ("unit", 0.25), ("unit", 0.9))
    )
    share = math.log(many / place) / math.log(many / few)
    expected = [0.96 - (0.90 - share * 0.80), 0.95 - (0.92 - share * 0.80)]
    assert mean_of(found.comparisons[0]) == pytest.approx(np.mean(expected))


def test_matched_accuracy_is_interpolated_as_it_is(make_run: Any) -> None:
    cells = {
        ("weight", 0.5): [0.80, 0.85],
        ("unit", 0.25): [0.90, 0.90],
        ("unit", 0.5): [0.70, 0.70],
    }
    chosen = claim(
        against=("unit",), matched_on="test_accuracy", measure="nonzero_parameters", says="higher"
    )
    made = make_run(cells, claims=(chosen,))
    results = Results(made.study, made.records)
    (found,) = judged_claims(results)
    size = {level: results.values("unit", level, "nonzero_parameters")[0] for level in (0.25, 0.5)}
    ours = results.values("weight", 0.5, "nonzero_parameters")[0]
    halves = [(size[0.25] + size[0.5]) / 2, 0.75 * size[0.25] + 0.25 * size[0.5]]
    assert mean_of(found.comparisons[0]) == pytest.approx(np.mean([ours - half for half in halves]))
    assert f" are {np.mean([half - ours for half in halves]):.0f} below those" in found.evidence


def test_several_arms_make_one_curve_to_match_on(make_run: Any) -> None:
    cells = {
        ("weight", 0.5): [0.80, 0.85],
        ("unit", 0.5): [0.90, 0.90],
        ("random", 0.5): [0.70, 0.70],
    }
    chosen = claim(
        against=("unit", "random"), matched_on="test_accuracy", measure="bytes_compressed"
    )
    made = make_run(cells, claims=(chosen,))
    results = Results(made.study, made.records)
    (found,) = judged_claims(results)
    (row,) = found.comparisons
    assert row.against == ("unit", "random")
    ends = [results.values(arm, 0.5, "bytes_compressed")[0] for arm in ("unit", "random")]
    ours = results.values("weight", 0.5, "bytes_compressed")[0]
    curve = [(ends[0] + ends[1]) / 2, 0.75 * ends[0] + 0.25 * ends[1]]
    assert mean_of(row) == pytest.approx(np.mean([ours - value for value in curve]))


def test_what_lies_out_of_the_other_curve_is_not_comparable(make_run: Any) -> None:
    cells = {
        ("weight", 0.3): [0.80, 0.95],
        ("weight", 0.5): [0.80, 0.85],
        ("unit", 0.25): [0.90, 0.90],
        ("unit", 0.5): [0.70, 0.70],
    }
    chosen = claim(against=("unit",), matched_on="test_accuracy", says="on-par", margin=0.02)
    made = make_run(cells, claims=(chosen,))
    (found,) = judged_claims(Results(made.study, made.records))
    assert [row.gap for row in found.comparisons] == ["not comparable", ""]
    assert [row.verdict for row in found.comparisons] == ["undecided", "supported"]
    assert found.verdict == "undecided"
    assert found.evidence.endswith(
        " Not comparable: 30% sparsity (1 of 2 seeds lies outside the range of test accuracy that "
        "unit pruning covers)."
    )
    alone = make_run(
        {key: values[1:] for key, values in cells.items() if key != ("weight", 0.5)},
        claims=(chosen,),
    )
    (found,) = judged_claims(Results(alone.study, alone.records))
    assert found.verdict == "undecided"
    assert found.evidence == (
        "Undecided: what it compares is nowhere equal in test accuracy: the only seed lies "
        "outside the range of test accuracy that unit pruning covers."
    )


def test_other_arm_at_a_level_of_its_own(judge: Any) -> None:
    found = judge(CELLS, claim(against=("weight",), against_level=0.3, levels=(0.5, 0.9)))
    assert [row.against_level for row in found.comparisons] == [0.3, 0.3]
    assert "3.10 points below that of weight pruning at 30% sparsity; " in found.evidence


@pytest.fixture
def plain_arms() -> tuple[Arm, ...]:
    """Arms without a grid, as a study of one sparsity has them."""
    train = {"step": "train", "epochs": 10}
    return tuple(
        Arm(
            name=name,
            label=name.capitalize(),
            role="main",
            recipe=(train,),
            dataset="mnist",
            network="mlp",
        )
        for name in ("transferred", "shuffled", "random")
    )


def test_study_without_levels_names_none(judge: Any, plain_arms: tuple[Arm, ...]) -> None:
    cells = {
        ("transferred", 0.0): BASE,
        ("shuffled", 0.0): shifted(-0.02),
        ("random", 0.0): shifted(-0.1),
    }
    given = claim(compare="transferred", against=("shuffled", "random"), says="higher")
    found = judge(cells, given, arms=plain_arms)
    assert found.evidence.startswith(
        "Supported: the test accuracy of transferred is 2.00 to 10.00 points above that of "
        "shuffled and random; the smallest rise that the intervals admit is "
    )


def test_mean_over_arms_says_that_it_is_one(judge: Any, plain_arms: tuple[Arm, ...]) -> None:
    cells = {
        ("transferred", 0.0): BASE,
        ("shuffled", 0.0): shifted(-0.02),
        ("random", 0.0): shifted(-0.1),
    }
    given = claim(compare="transferred", against=("shuffled", "random"), over="mean")
    found = judge(cells, given, arms=plain_arms)
    assert found.evidence.startswith(
        "Supported: on average the test accuracy of transferred is 6.00 points above that of "
        "shuffled and random; "
    )
    (row,) = found.comparisons
    assert row.against == ("shuffled", "random")


def test_gap_of_a_study_without_levels_names_the_arm(
    make_run: Any, plain_arms: tuple[Arm, ...]
) -> None:
    cells = {("transferred", 0.0): BASE, ("shuffled", 0.0): BASE, ("random", 0.0): BASE}
    given = claim(compare="transferred", against=("shuffled", "random"), says="not-lower")
    made = make_run(cells, arms=plain_arms, claims=(given,))
    late = {trial.key for trial in made.study.trials if trial.arm == "random"}
    records = {key: one for key, one in made.records.items() if key not in late}
    (found,) = judged_claims(Results(made.study, records))
    assert found.evidence.endswith(" Not measured yet: against random.")


def test_arm_without_levels_is_held_against_every_level(
    judge: Any, plain_arms: tuple[Arm, ...]
) -> None:
    cells = {
        ("transferred", 0.0): BASE,
        ("random", 0.5): shifted(-0.02),
        ("random", 0.9): shifted(-0.1),
    }
    found = judge(cells, claim(compare="transferred", against=("random",)), arms=plain_arms)
    assert [(row.levels, row.against_level) for row in found.comparisons] == [
        ((0.5,), 0.5),
        ((0.9,), 0.9),
    ]
    assert found.evidence.startswith(
        "Supported: at 50 and 90% sparsity the test accuracy of transferred is 2.00 to 10.00 "
        "points above that of random; "
    )
    given = claim(compare="transferred", against=("random",), levels=(0.9,), against_level=0.5)
    single = judge(cells, given, arms=plain_arms)
    assert single.evidence.startswith("Supported: at 50% sparsity the test accuracy of transferr")
    assert " above that of random; " in single.evidence


def test_intervals_of_accuracies_stay_within_what_is_possible(judge: Any) -> None:
    cells = {("dense", 0.0): [0.9, 0.9], ("weight", 0.5): [0.1, 0.8]}
    (row,) = judge(cells, claim()).comparisons
    assert (row.interval.low, row.interval.high) == (-1.0, 1.0)


def consistent(found: JudgedClaim) -> bool:
    """Whether rows and claim have the verdicts that their printed intervals have."""
    rows = [
        comparison_verdict(found.claim.says, found.claim.margin, row.interval)
        for row in found.comparisons
        if row.interval
    ]
    assert [row.verdict for row in found.comparisons] == rows
    return found.verdict == claim_verdict(found.claim.over, rows)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.data(),
    st.sampled_from(["higher", "lower", "not-lower", "not-higher", "on-par"]),
    st.sampled_from(["each", "any", "mean"]),
    st.floats(0, 0.05),
    st.booleans(),
)
def test_sentence_opens_with_the_verdict_of_the_intervals(
    make_run: Any, data: st.DataObject, says: str, over: str, margin: float, paired: bool
) -> None:
    accuracies = st.lists(st.integers(8000, 9900), min_size=4, max_size=4)
    cells = {
        place: [count / 10_000 for count in data.draw(accuracies)]
        for place in (("dense", 0.0), ("weight", 0.3), ("weight", 0.9))
    }
    made = make_run(cells, claims=(claim(says=says, over=over, margin=margin),), paired=paired)
    (found,) = judged_claims(Results(made.study, made.records))
    assert consistent(found)
    assert found.evidence.startswith(f"{found.verdict.capitalize()}: ")
    assert found.evidence.count("; ") == 1
    assert found.evidence.endswith(".")


def test_all_intervals_of_a_study_hold_together_as_often_as_they_say(make_run: Any) -> None:
    generator = np.random.default_rng(11)
    truth = {0.3: 0.002, 0.5: 0.0, 0.9: -0.02}
    claims = (claim(), claim(name="b", says="lower", levels=(0.9,)), claim(name="c", over="mean"))
    held = 0
    for _ in range(400):
        base = generator.normal(0.9, 0.004, 6)
        cells = {("dense", 0.0): base.tolist()}
        for level, effect in truth.items():
            cells["weight", level] = (base + effect + generator.normal(0, 0.003, 6)).tolist()
        made = make_run(cells, claims=claims)
        found = judged_claims(Results(made.study, made.records))
        rows = [row for one in found for row in one.comparisons]
        true = [float(np.mean([truth[level] for level in row.levels])) for row in rows]
        reaches = [ends(row) for row in rows]
        held += all(low <= one <= high for one, (low, high) in zip(true, reaches, strict=True))
    assert held / 400 > 0.95 - 3 * math.sqrt(0.05 * 0.95 / 400)
