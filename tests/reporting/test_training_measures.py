from typing import Any

import pytest

from gossamer.reporting.results import Results


def after_training(made: Any, *accuracies: float | None) -> Results:
    """Return results whose records all end in one training with these validation accuracies."""
    (phase,) = list(made.phases.values())[:1]
    epochs = tuple(
        epoch.model_copy(update={"validation_accuracy": accuracy})
        for epoch, accuracy in zip(phase.history, accuracies, strict=False)
    )
    phase = phase.model_copy(update={"history": epochs})
    records = {
        key: one.model_copy(
            update={"phases": (phase.key,), "identity": {"steps": [{"step": "train"}]}}
        )
        for key, one in made.records.items()
    }
    return Results(made.study, records, phases={phase.key: phase})


def test_validation_measures_come_from_the_last_training(make_run: Any) -> None:
    made = make_run({("dense", 0.0): [0.9]})
    results = after_training(made, 0.5, 0.6, 0.8, 0.85)
    assert results.values("dense", 0.0, "validation_accuracy") == {0: 0.85}
    gain = results.values("dense", 0.0, "validation_gain_second_half")
    assert gain == {0: pytest.approx(0.25)}
    odd = after_training(made, 0.5, 0.6, 0.8)
    assert odd.values("dense", 0.0, "validation_gain_second_half") == {0: pytest.approx(0.3)}


def test_training_without_validation_has_no_such_measure(make_run: Any) -> None:
    made = make_run({("dense", 0.0): [0.9]})
    for accuracies in ((None, None), ()):
        results = after_training(made, *accuracies)
        assert results.values("dense", 0.0, "validation_accuracy") == {}
    one = after_training(made, 0.5)
    assert one.values("dense", 0.0, "validation_accuracy") == {0: 0.5}
    assert one.values("dense", 0.0, "validation_gain_second_half") == {}


def test_halves_of_a_training_that_stopped_early_are_not_compared(make_run: Any) -> None:
    results = after_training(make_run({("dense", 0.0): [0.9]}), 0.5, 0.6, 0.8, 0.85)
    ((key, phase),) = results.phases.items()
    early = phase.model_copy(update={"stopped": "train_accuracy reached 0.9, the target 0.9"})
    stopped = Results(results.study, results.records, phases={key: early})
    assert stopped.values("dense", 0.0, "validation_accuracy") == {0: 0.85}
    assert stopped.values("dense", 0.0, "validation_gain_second_half") == {}


def test_running_averages_are_those_of_the_last_epoch(make_run: Any) -> None:
    results = after_training(make_run({("dense", 0.0): [0.9]}), 0.5, 0.6)
    (phase,) = results.phases.values()
    for name in ("accuracy", "loss"):
        running = results.values("dense", 0.0, f"running_train_{name}")
        assert running == {0: getattr(phase.history[-1], f"train_{name}")}


def test_network_pruned_after_training_has_no_validation_measure(make_run: Any) -> None:
    made = make_run({("dense", 0.0): [0.9]})
    trained = after_training(made, 0.5, 0.6)
    steps = [{"step": "train"}, {"step": "prune"}]
    records = {
        key: one.model_copy(update={"identity": {"steps": steps}})
        for key, one in trained.records.items()
    }
    results = Results(made.study, records, phases=trained.phases)
    assert results.values("dense", 0.0, "validation_accuracy") == {}
