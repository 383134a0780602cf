from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from gossamer.records.record import Arm
from gossamer.reporting.checklist import ChecklistItem, baseline_kinds, checklist
from gossamer.reporting.results import Results

TRAIN = {"step": "train", "epochs": 10}
PRUNE = {"step": "prune", "sparsity": "$sparsity"}
LEVELS = (0.25, 0.5, 0.8, 0.9, 0.99)
FALLING = (0.98, 0.95, 0.8, 0.4, 0.12)


def arm(name: str, *steps: Mapping[str, Any], role: str = "main", **given: Any) -> Arm:
    standard = {"dataset": "mnist", "network": "mlp"}
    label = name.capitalize().replace("-", " ")
    return Arm(name=name, label=label, role=role, recipe=steps, **{**standard, **given})


DENSE = arm("dense", TRAIN, role="baseline")
PRUNED = arm("pruned", TRAIN, PRUNE)


def falling(name: str, seeds: int = 3) -> dict[tuple[str, float], list[float]]:
    return {
        (name, level): [accuracy - 0.001 * seed for seed in range(seeds)]
        for level, accuracy in zip(LEVELS, FALLING, strict=True)
    }


@pytest.fixture
def ask(make_run: Any) -> Any:
    """Return the item that opens with some words, of made-up results."""

    def item(
        opening: str, cells: Any, *arms: Arm, undone: bool = False, **changes: Any
    ) -> ChecklistItem:
        made = make_run(cells, arms=arms, **changes)
        records = {} if undone else made.records
        (found,) = [
            one for one in checklist(Results(made.study, records)) if one.text.startswith(opening)
        ]
        return found

    return item


CELLS = {("dense", 0.0): [0.98, 0.981, 0.979], **falling("pruned")}


def test_compression_and_speed_up_are_given_with_definitions(ask: Any) -> None:
    found = ask("Compression", CELLS, DENSE, PRUNED)
    # At 99%, hidden weights of 2,384,000 leave 23,840, and the output layer its 2,000.
    assert found.met is True
    assert found.evidence == (
        "Compression is the parameters of the dense network over the non-zero ones, theoretical "
        "speed-up the multiply-adds of the dense network over those of non-zero weights: at most "
        f"{2_386_000 / 25_840:.1f}× and {2_386_000 / 25_840:.1f}× (pruned)."
    )


def test_packed_networks_are_compared_with_the_dense_one(make_run: Any) -> None:
    made = make_run(CELLS, arms=(DENSE, PRUNED))
    records = dict(made.records)
    for trial in made.study.trials:
        if trial.arm == "pruned":
            one = records[trial.key]
            stored = {"parameters": 1000.0, "nonzero_parameters": 1000.0, "macs_dense": 1000.0}
            measures = {**one.measures, **stored, "macs_nonzero": 500.0}
            records[trial.key] = one.model_copy(update={"measures": measures})
    first = checklist(Results(made.study, records))[0]
    assert first.evidence.endswith("at most 2386.0× and 4772.0× (pruned).")


def test_sizes_that_are_not_measured_are_said_to_be_missing(make_run: Any) -> None:
    other = arm("other", TRAIN, PRUNE)
    made = make_run({**CELLS, ("other", 0.5): [0.9]}, arms=(DENSE, PRUNED, other))
    records = dict(made.records)
    for trial in made.study.trials:
        if trial.arm == "other":
            records[trial.key] = records[trial.key].model_copy(update={"measures": {}})
    first = checklist(Results(made.study, records))[0]
    assert first.met is False
    assert first.evidence.endswith(" Not measured of other.")


POINTS = "Every main arm that prunes has 5 operating points"


def test_five_points_up_to_collapse(ask: Any) -> None:
    found = ask(POINTS, CELLS, DENSE, PRUNED)
    assert found.met is True
    assert found.evidence == (
        "Points by arm: pruned 5. A network has collapsed where its mean test accuracy is less "
        "than half-way from chance (one over the classes) to that of the dense network: pruned "
        "does."
    )


def test_points_without_collapse_are_not_enough(ask: Any) -> None:
    # Half-way from chance to the dense network is (0.1 + 0.98) / 2 = 0.54.
    cells = {key: [max(one, 0.55) for one in values] for key, values in CELLS.items()}
    found = ask(POINTS, cells, DENSE, PRUNED)
    assert found.met is False
    assert found.evidence.endswith("dense network: pruned does not so far.")
    cells = {key: [max(one, 0.53) for one in values] for key, values in CELLS.items()}
    assert ask(POINTS, cells, DENSE, PRUNED).met is True


def test_one_arm_that_collapses_does_not_speak_for_another(ask: Any) -> None:
    lasting = {("lasting", level): [0.97, 0.97, 0.97] for level in LEVELS}
    found = ask(POINTS, {**CELLS, **lasting}, DENSE, PRUNED, arm("lasting", TRAIN, PRUNE))
    assert found.met is False
    assert found.evidence.endswith("dense network: lasting does not so far.")


def test_collapse_with_four_points_is_not_enough(ask: Any) -> None:
    cells = {key: values for key, values in CELLS.items() if key != ("pruned", 0.25)}
    found = ask(POINTS, cells, DENSE, PRUNED)
    assert found.met is False
    assert found.evidence.startswith("Points by arm: pruned 4. ")


def test_collapse_cannot_be_told_without_a_dense_network(ask: Any) -> None:
    found = ask(POINTS, falling("pruned"), PRUNED)
    assert found.met is False
    several = {**CELLS, **falling("second")}
    found = ask(POINTS, several, DENSE, PRUNED, arm("second", TRAIN, PRUNE))
    assert found.met is True
    assert found.evidence.endswith("dense network: every pruned arm does.")


@pytest.mark.parametrize(
    ("seeds", "paired", "met", "evidence"),
    [
        (3, False, True, "A number rests on 3 seeds. The spread is shown as a 95% interval."),
        (2, False, False, "A number rests on 2 seeds. The spread is shown as a 95% interval."),
        (1, False, False, "A number rests on 1 seed. One gives no spread to be shown."),
        (
            4,
            True,
            False,
            "A number rests on 2 pairs of seeds. The spread is shown as a 95% interval.",
        ),
        (
            6,
            True,
            True,
            "A number rests on 3 pairs of seeds. The spread is shown as a 95% interval.",
        ),
    ],
)
def test_seeds_are_counted(ask: Any, seeds: int, paired: bool, met: bool, evidence: str) -> None:
    cells = {("dense", 0.0): [0.98] * seeds, **falling("pruned", seeds)}
    found = ask("Several seeds", cells, DENSE, PRUNED, paired=paired)
    assert (found.met, found.evidence) == (met, evidence)


def test_fewest_seeds_decide(ask: Any) -> None:
    cells = {**CELLS, ("pruned", 0.5): [0.9]}
    found = ask("Several seeds", cells, DENSE, PRUNED)
    assert found.met is False
    assert found.evidence.startswith("A number rests on 1 to 3 seeds. ")


@pytest.mark.parametrize(
    ("step", "kinds"),
    [
        (PRUNE, {("magnitude", "global")}),
        ({**PRUNE, "allocation": "uniform"}, {("magnitude", "layer by layer")}),
        ({**PRUNE, "allocation": {"name": "erk"}}, {("magnitude", "layer by layer")}),
        ({**PRUNE, "score": "random"}, {("random", "global")}),
        (
            {**PRUNE, "score": "random", "allocation": {"name": "erdos-renyi", "epsilon": 20}},
            {("random", "layer by layer")},
        ),
        ({**PRUNE, "score": "largest"}, set()),
        (TRAIN, set()),
        ({"step": "transfer", "source": "s", "shuffle": "layer"}, {("random", "layer by layer")}),
        ({"step": "transfer", "source": "s"}, set()),
        (
            {"step": "transfer", "source": {"data": None, "recipe": (TRAIN, PRUNE)}},
            {("magnitude", "global")},
        ),
        (
            {"step": "transfer", "source": {"data": "mnist", "recipe": (TRAIN, PRUNE)}},
            {("magnitude", "global")},
        ),
        ({"step": "transfer", "source": {"data": "fashion-mnist", "recipe": (PRUNE,)}}, set()),
    ],
)
def test_simple_ways_of_pruning_are_read_off_the_recipe(
    step: Mapping[str, Any], kinds: set[tuple[str, str]]
) -> None:
    assert baseline_kinds(arm("any", TRAIN, step)) == kinds


def test_simple_baselines_that_lack_are_named(ask: Any) -> None:
    random = arm("random", TRAIN, {**PRUNE, "score": "random"}, role="control")
    found = ask("Random and magnitude", CELLS, DENSE, PRUNED, random)
    assert found.met is False
    assert found.evidence == (
        "Random global: random; magnitude global: pruned. Lacking: random layer by layer and "
        "magnitude layer by layer."
    )


def test_all_four_simple_baselines(ask: Any) -> None:
    arms = [
        arm(f"{score}-{share}", TRAIN, {**PRUNE, "score": score, "allocation": share})
        for score in ("random", "magnitude")
        for share in ("global", "uniform")
    ]
    found = ask("Random and magnitude", CELLS, DENSE, *arms)
    assert found.met is True
    assert "Lacking" not in found.evidence


def test_no_simple_baseline_at_all(ask: Any) -> None:
    largest = arm("largest", TRAIN, {**PRUNE, "score": "largest"})
    found = ask("Random and magnitude", CELLS, DENSE, largest)
    assert found.evidence.startswith("Lacking: random global, ")


RETRAINED = arm("retrained", TRAIN, PRUNE, TRAIN)
LONGER = arm("longer", TRAIN, TRAIN, role="control")


def test_network_trained_by_the_same_steps_has_the_same_budget(ask: Any) -> None:
    cells = {**CELLS, ("longer", 0.0): [0.98], ("retrained", 0.5): [0.97]}
    found = ask("An unpruned network", cells, DENSE, PRUNED, RETRAINED, LONGER)
    assert found.met is True
    assert found.evidence == "Pruned has dense and retrained has longer."


def test_network_trained_longer_than_any_unpruned_one(ask: Any, make_run: Any) -> None:
    made = make_run({**CELLS, ("retrained", 0.5): [0.97]}, arms=(DENSE, PRUNED, RETRAINED))
    trials = tuple(
        replace(trial, optimizer_steps=12_000 if trial.arm == "retrained" else 6_000)
        for trial in made.study.trials
    )
    study = made.study.model_copy(update={"trials": trials})
    found = checklist(Results(study, made.records))[4]
    assert found.met is False
    assert found.evidence == "Pruned has dense. No such network beside retrained."


def test_network_trained_otherwise_for_as_many_steps_has_the_same_budget(ask: Any) -> None:
    at_once = arm("at-once", {"step": "train", "epochs": 20}, role="control")
    cells = {("dense", 0.0): [0.98], ("at-once", 0.0): [0.98], ("retrained", 0.5): [0.97]}
    found = ask("An unpruned network", cells, at_once, RETRAINED)
    assert (found.met, found.evidence) == (True, "Retrained has at once.")
    elsewhere = at_once.model_copy(update={"dataset": "fashion-mnist"})
    found = ask("An unpruned network", cells, elsewhere, RETRAINED)
    assert (found.met, found.evidence) == (False, "No such network beside retrained.")


def test_raw_accuracies_need_the_dense_network(ask: Any) -> None:
    found = ask("Raw accuracies", CELLS, DENSE, PRUNED)
    assert found.met is True
    assert found.evidence == (
        "The unpruned network has 98.00%; the tables and results.csv give test accuracies "
        "themselves."
    )
    found = ask("Raw accuracies", falling("pruned"), PRUNED)
    assert found.met is False
    assert found.evidence.startswith("No unpruned network; ")


def test_settings_stand_in_the_study_file(ask: Any) -> None:
    assert ask("All hyper-parameters", CELLS, DENSE, PRUNED).met is True
    assert ask("All hyper-parameters", CELLS, DENSE, PRUNED, file=" \n").met is False


def test_pairs_of_dataset_and_network_are_counted(ask: Any) -> None:
    found = ask("At least 3 pairs", CELLS, DENSE, PRUNED)
    assert (found.met, found.evidence) == (False, "1: mnist with mlp.")
    fashion = arm("fashion", TRAIN, dataset="fashion-mnist")
    cifar = arm("cifar", TRAIN, dataset="cifar10", network="cifar-cnn")
    found = ask("At least 3 pairs", CELLS, DENSE, PRUNED, fashion, cifar)
    assert found.met is True
    own = cifar.model_copy(update={"dataset": "mine.npz"})
    found = ask("At least 3 pairs", CELLS, DENSE, PRUNED, fashion, own)
    assert found.met is False
    assert found.evidence.endswith(" Of no standard: mine.npz.")


def test_nothing_done_is_neither_met_nor_not(ask: Any) -> None:
    for opening in ("Compression", POINTS, "Several", "Raw"):
        found = ask(opening, CELLS, DENSE, PRUNED, undone=True)
        assert (found.met, found.evidence) == (None, "Nothing that it asks for is measured yet.")


def test_demands_on_pruning_do_not_apply_without_it(ask: Any) -> None:
    for opening in ("Compression", POINTS, "Random and", "An unpruned"):
        found = ask(opening, {("dense", 0.0): [0.98]}, DENSE)
        assert (found.met, found.evidence) == (None, "No main arm makes a network sparse.")
