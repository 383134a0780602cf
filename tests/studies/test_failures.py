"""A training that fails is told of as what it is, with all that wait for it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gossamer.studies.failures import failure_text
from gossamer.studies.plan import Plan
from gossamer.studies.run import Request, prepare
from gossamer.studies.tasks import Failure

WriteStudy = Callable[..., Path]


def plan_of(study: Path) -> Plan:
    return prepare(Request(study=str(study), folder=study.parent), None).plan


def test_a_shared_training_is_blamed_on_no_arm(study_file: Path) -> None:
    plan = plan_of(study_file)
    shared = plan.trainings[0]
    said = failure_text(plan, "sparsity", Failure(shared.keyed, shared.key, "it diverged"))
    assert said == (
        "the training shared by dense, weight (at sparsity 0.5 and 0.9), retrained (at sparsity "
        "0.5 and 0.9) and rewound (at sparsity 0.5 and 0.9) (step 1, seed 0): it diverged; 7 "
        "trials cannot be done without it"
    )


def test_a_training_of_one_trial_is_that_trials(study_file: Path) -> None:
    plan = plan_of(study_file)
    (alone,) = (
        one
        for one in plan.trainings
        if sum(one.key in p.keyed.phases for p in plan.trials) == 1
        and any(p.arm == "rewound" and p.level == 0.9 and one.key in p.keyed.phases
                for p in plan.trials)
        and one.keyed.trial.seed == 1
    )  # fmt: skip
    said = failure_text(plan, "sparsity", Failure(alone.keyed, alone.key, "it diverged"))
    assert said == "rewound, sparsity 0.9, seed 1, step 4: it diverged"


def test_a_measurement_is_its_trials(study_file: Path) -> None:
    plan = plan_of(study_file)
    trial = next(p.keyed for p in plan.trials if p.arm == "weight" and p.level == 0.5)
    said = failure_text(plan, "sparsity", Failure(trial, None, "it is damaged"))
    assert said == "weight, sparsity 0.5, seed 0: it is damaged"


def test_a_training_of_a_source_is_told_as_such(write_study: WriteStudy) -> None:
    plan = plan_of(write_study(leaky=True))
    sources = {key for p in plan.trials for s in p.keyed.sources.values() for key in s.states}
    training = next(one for one in plan.trainings if one.key in sources)
    said = failure_text(plan, "sparsity", Failure(training.keyed, training.key, "it diverged"))
    assert said == (
        "lent, sparsity 0.5, seed 0, step 1 of the source that a mask is borrowed from: it diverged"
    )


@pytest.mark.parametrize("rate", ["1e30"])
def test_a_run_tells_it_once(write_study: WriteStudy, tmp_path: Path, rate: str) -> None:
    from running_studies import run_all

    study = write_study(
        (
            'training = [{ step = "train", epochs = "$epochs", batch = 64 }]',
            'training = [{ step = "train", epochs = "$epochs", batch = 64, '
            f'optimizer = {{ name = "sgd", rate = {rate}, momentum = 0.9 }} }}]',
        )
    )
    events = run_all(study, tmp_path / "out")
    failures = [event for event in events if isinstance(event, Failure)]
    assert len(failures) == 2  # one a seed
    assert all(f.reason.startswith("the training shared by dense, weight") for f in failures)
