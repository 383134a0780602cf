"""A study of the real size with made-up numbers: weight pruning against unit pruning."""

import hashlib
import math
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from gossamer.leakage import audit
from gossamer.records.joint import JointRecord
from gossamer.records.leakage import Estimate, Leakage, LeakageChange
from gossamer.records.record import (
    Arm,
    Environment,
    Epoch,
    Layer,
    Phase,
    Published,
    PublishedFigure,
    Record,
    StudyRun,
    TrialLabel,
)
from gossamer.reporting.results import Results

LEVELS = (0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.99)
PUBLISHED = {
    "weight": (97.09, 96.94, 94.74, 89.94, 64.21, 44.56, 18.32, 11.80, 9.24, 8.70),
    "unit": (97.09, 82.53, 22.20, 12.68, 11.74, 9.88, 9.85, 9.66, 8.64, 6.47),
}
MEASURED = {
    "weight": (98.1, 98.08, 98.0, 97.9, 97.6, 96.6, 82.0, 41.0, 22.0, 11.3),
    "unit": (98.1, 97.9, 85.1, 61.2, 33.0, 18.0, 11.0, 10.2, 9.9, 9.8),
    "random-weight": (98.1, 96.0, 55.0, 31.0, 19.0, 13.0, 10.6, 10.1, 9.9, 9.8),
    "random-unit": (98.1, 93.0, 62.0, 40.0, 25.0, 16.0, 11.4, 10.4, 9.9, 9.8),
    "largest-weight": (98.1, 14.0, 10.1, 9.8, 9.8, 9.8, 9.8, 9.8, 9.8, 9.8),
    "largest-unit": (98.1, 61.0, 21.0, 14.0, 11.0, 9.9, 9.8, 9.8, 9.8, 9.8),
}
SHAPES = ((1000, 784), (1000, 1000), (500, 1000), (200, 500), (10, 200))


def arm(**given: Any) -> Arm:
    """Return an arm of the MLP on MNIST, unless said otherwise."""
    return Arm(**{"dataset": "mnist", "network": "mlp", **given})


ARMS = (
    arm(name="dense", label="Dense", role="baseline", recipe=({"step": "train", "epochs": 10},)),
    arm(
        name="weight",
        label="Weight pruning",
        role="main",
        recipe=(
            {"step": "train", "epochs": 10},
            {"step": "prune", "sparsity": "$sparsity", "pattern": "weight", "exclude": ["output"]},
        ),
    ),
    arm(
        name="unit",
        label="Unit pruning",
        role="main",
        recipe=(
            {"step": "train", "epochs": 10},
            {"step": "prune", "sparsity": "$sparsity", "pattern": "unit", "exclude": ["output"]},
        ),
    ),
    *(
        arm(
            name=f"{order}-{kind}",
            label=f"{'Largest-first' if order == 'largest' else 'Random'} {kind} pruning",
            role="control",
            recipe=(
                {"step": "train", "epochs": 10},
                {"step": "prune", "sparsity": "$sparsity", "pattern": kind, "score": order},
            ),
        )
        for order in ("random", "largest")
        for kind in ("weight", "unit")
    ),
)
FILE = """name = "weight-vs-unit"
dataset = "mnist"
network = "mlp"

[grid]
sparsity = [0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.99]

[[arms]]
name = "weight"  # "</script>" and <b>bold</b> are harmless here
steps = [{step = "train", epochs = 10}, {step = "prune", sparsity = "$sparsity"}]
"""
ENVIRONMENT = Environment(
    gossamer="0.1.0",
    python="3.11.9",
    torch="2.13.0+cpu",
    libraries={"numpy": "2.4.6", "scipy": "1.17.1"},
    processor="AMD EPYC 9575F",
    machine="x86_64, Linux 6.8",
    threads=2,
    device="cpu",
    revision="0123456789abcdef",
)


@dataclass(frozen=True)
class Run:
    """What write_report takes."""

    study: StudyRun
    records: dict[str, Record]
    phases: dict[str, Phase]
    joints: tuple[JointRecord, ...] = ()

    @property
    def results(self) -> Results:
        """Everything of the run, as the report reads it."""
        return Results(self.study, self.records, self.joints, self.phases)


def key(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def phase(seed: int, *, epochs: int = 10, name: str = "dense", start: int = 0) -> Phase:
    stream = random.Random(f"phase {name} {seed}")
    history = []
    for epoch in range(start + 1, start + epochs + 1):
        loss = 0.5 * math.exp(-0.45 * epoch) + 0.012 + stream.uniform(0, 0.004)
        history.append(
            Epoch(
                epoch=epoch,
                rate=0.1,
                train_loss=loss,
                train_accuracy=1 - 0.25 * loss,
                validation_loss=0.45 * math.exp(-0.6 * epoch) + 0.07 + stream.uniform(0, 0.006),
                validation_accuracy=0.981 - 0.07 * math.exp(-0.5 * epoch) + stream.uniform(0, 2e-3),
                seconds=3.1,
            )
        )
    return Phase(
        key=key("phase", name, seed),
        parent=key("start", seed),
        step={
            "step": "train",
            "epochs": epochs,
            "batch": 100,
            "optimizer": {"name": "sgd", "rate": 0.1, "momentum": 0.0, "nesterov": False},
            "augmentation": None,
        },
        precision="float32",
        optimizer_steps=600 * epochs,
        examples=60000 * epochs,
        seconds=31.4,
        stopped=None,
        history=tuple(history),
        environment=ENVIRONMENT,
    )


def layers(arm: str, level: float) -> tuple[Layer, ...]:
    found, inputs = [], 1.0
    for index, (rows, columns) in enumerate(SHAPES):
        weights, last = rows * columns, index == len(SHAPES) - 1
        zeros = 0 if last else round(level * weights)
        kept = 1.0 if last else 1 - level
        effective = weights - zeros
        if arm.endswith("unit") and index:
            effective = round(weights * kept * inputs)
        inputs = kept
        name = f"hidden{index + 1}.weight" if not last else "output.weight"
        found.append(
            Layer(
                name=name,
                shape=(rows, columns),
                prunable=not last,
                weights=weights,
                nonzero=weights - zeros,
                effective=effective,
            )
        )
    return tuple(found)


def sizes(arm: str, level: float) -> dict[str, float]:
    found = layers(arm, level)
    total = sum(layer.weights for layer in found)
    prunable = sum(layer.weights for layer in found if layer.prunable)
    nonzero = sum(layer.nonzero for layer in found)
    nonzero_prunable = sum(layer.nonzero for layer in found if layer.prunable)
    effective = sum(layer.effective or 0 for layer in found if layer.prunable)
    return {
        "parameters": total,
        "prunable_parameters": prunable,
        "nonzero_parameters": nonzero,
        "nonzero_prunable": nonzero_prunable,
        "sparsity_requested": level,
        "sparsity": 1 - nonzero_prunable / prunable,
        "sparsity_all": 1 - nonzero / total,
        "effective_sparsity": 1 - effective / prunable,
        "bytes_dense": 4 * total,
        "bytes_compressed": min(4 * total, 6 * nonzero),
        "macs_dense": total,
        "macs_nonzero": nonzero,
    }


def record(
    arm: str, seed: int, level: float, accuracy: float, phases: tuple[str, ...] = ()
) -> Record:
    classes = tuple(
        min(1.0, max(0.0, accuracy + 0.01 * math.sin(3 * i + 10 * level))) for i in range(10)
    )
    return Record(
        key=key(arm, seed, level),
        identity={"arm": arm, "seed": seed, "level": level},
        phases=phases,
        measures={
            "test_accuracy": accuracy,
            "test_loss": 2.4 - 2.3 * accuracy,
            "train_accuracy": min(1.0, accuracy + 0.015),
            "train_loss": 2.3 - 2.25 * accuracy,
            "train_examples": 60000,
            "test_examples": 10000,
            **sizes(arm, level),
        },
        per_class={"test": classes, "train": classes},
        layers=layers(arm, level),
        seconds=0.4,
        environment=ENVIRONMENT,
    )


def label(made: Record, steps: int = 6000) -> TrialLabel:
    identity = made.identity
    return TrialLabel(
        arm=identity["arm"],
        seed=identity["seed"],
        level=identity["level"],
        key=made.key,
        phases=made.phases,
        optimizer_steps=steps,
    )


def run_of(
    accuracies: Mapping[tuple[str, float], Iterable[float]],
    arms: tuple[Arm, ...] = ARMS,
    keep: tuple[str, ...] | None = None,
    **changes: Any,
) -> Run:
    """Make a run from the accuracy of each arm and level, one value a seed."""
    arms = tuple(arm for arm in arms if keep is None or arm.name in keep)
    seeds = range(max(len(list(values)) for values in accuracies.values()))
    phases = {one.key: one for one in map(phase, seeds)}
    records, trials = {}, []
    for (arm, level), values in accuracies.items():
        for seed, accuracy in enumerate(values):
            made = record(arm, seed, level, accuracy, (key("phase", "dense", seed),))
            records[made.key] = made
            trials.append(label(made))
    study = StudyRun(
        **{
            "name": "weight-vs-unit",
            "title": "Weight pruning against unit pruning",
            "question": "How many weights, and how many whole units, can a trained network lose "
            "without retraining before it forgets its digits?",
            "scale": "paper",
            "axis": "sparsity",
            "dataset": "MNIST",
            "network": "MLP 784-1000-1000-500-200-10",
            "notes": (
                "Learning rate, batch size, epochs and initialisation were not published: 0.1, "
                "100, 10 and Glorot uniform are chosen.",
            ),
            "arms": arms,
            "published": None,
            "trials": tuple(trials),
            "command": "gossamer run weight-vs-unit --scale paper --seeds 5",
            "file": FILE,
            **changes,
        }
    )
    return Run(study, records, phases)


def published() -> Published:
    figures = [
        PublishedFigure(arm=arm, measure="test_accuracy", level=level, value=value / 100)
        for arm, column in PUBLISHED.items()
        for level, value in zip((0.0, *LEVELS), column, strict=True)
    ]
    return Published(
        source="A student's report of 2019 with its code; accuracies on the MNIST test set.",
        defects=(
            "Speed was claimed and never measured: zeros in a dense matrix save nothing.",
            "At the same k, unit pruning removes more: the outgoing weights stop mattering too.",
        ),
        figures=tuple(figures),
    )


def full_run(seeds: int = 5) -> Run:
    """Make the whole study."""
    stream = random.Random(20261105)
    accuracies: dict[tuple[str, float], list[float]] = {}
    base = [0.981 + stream.gauss(0, 0.0007) for _ in range(seeds)]
    accuracies["dense", 0.0] = base
    for arm, column in MEASURED.items():
        for level, mean in zip(LEVELS, column[1:], strict=True):
            width = 0.0006 + 0.10 * (mean / 100) * (1 - mean / 100) * (arm != "dense")
            accuracies[arm, level] = [
                min(0.985, max(0.06, mean / 100 + stream.gauss(0, width))) for _ in base
            ]
    return run_of(accuracies, published=published())


@pytest.fixture(scope="session")
def run() -> Run:
    return full_run()


@pytest.fixture(scope="session")
def results(run: Run) -> Results:
    return Results(run.study, run.records)


def retrained_run() -> Run:
    """Make a small study that trains on at every level, with a training of its own each."""
    made = run_of(
        {("dense", 0.0): [0.98, 0.97], ("weight", 0.5): [0.98, 0.97], ("weight", 0.9): [0.9, 0.8]},
        keep=("dense", "weight"),
    )
    phases, trials = dict(made.phases), []
    for trial in made.study.trials:
        keys = trial.phases
        if trial.arm == "weight":
            more = phase(trial.seed, name=f"retrain {trial.level}", epochs=3, start=10)
            phases[more.key] = more
            keys = (*keys, more.key)
        trials.append(replace(trial, phases=keys))
    study = made.study.model_copy(update={"trials": tuple(trials)})
    return Run(study, made.records, phases)


@pytest.fixture(scope="session")
def retrained() -> Run:
    return retrained_run()


@pytest.fixture(scope="session")
def longer() -> tuple[Arm, ...]:
    """Arms of which one trains on after pruning, and one as long without pruning."""
    train, more = {"step": "train", "epochs": 10}, {"step": "train", "epochs": 3}
    prune = {"step": "prune", "sparsity": "$sparsity"}
    return (
        arm(name="dense", label="Dense", role="baseline", recipe=(train,)),
        arm(name="weight", label="Weight pruning", role="main", recipe=(train, prune)),
        arm(name="retrained", label="Retraining", role="main", recipe=(train, prune, more)),
        arm(name="dense-longer", label="Dense, longer", role="control", recipe=(train, more)),
    )


def without_connectivity(made: Record) -> Record:
    """Return a record of a network whose connectivity could not be computed."""
    measures = {name: value for name, value in made.measures.items() if "effective" not in name}
    layers = tuple(replace(layer, effective=None) for layer in made.layers)
    return made.model_copy(update={"measures": measures, "layers": layers})


@pytest.fixture(scope="session")
def forget() -> Callable[[Record], Record]:
    return without_connectivity


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Run]:
    return run_of


@pytest.fixture(scope="session")
def make_full() -> Callable[[int], Run]:
    return full_run


def leak(strength: float, models: int = 6, examples: int = 600) -> Leakage:
    """Audit made-up logits of pairs of models, whose members stand out by so much."""
    generator = np.random.default_rng(round(1000 * strength))
    half = generator.random((models // 2, examples)) < 0.5
    members = np.empty((models, examples), dtype=bool)
    members[0::2], members[1::2] = half, ~half
    labels = generator.integers(0, 5, examples)
    logits = generator.normal(0, 1, (models, examples, 5))
    logits[:, np.arange(examples), labels] += 2 + strength * members
    return audit(logits, labels, members, pairs=np.arange(models) // 2)


def leaky_run() -> Run:
    """Make a study of paired halves in which pruning leaks less, and training longer more."""
    train, prune = {"step": "train", "epochs": 10}, {"step": "prune", "sparsity": "$sparsity"}
    half = {"pool": "half"}
    arms = (
        arm(name="dense", label="Dense", role="baseline", recipe=(train,), **half),
        arm(name="weight", label="Pruned", role="main", recipe=(train, prune, train), **half),
        arm(name="longer", label="Dense, longer", role="control", recipe=(train, train), **half),
    )
    strengths = {
        ("dense", 0.0): 2.0,
        ("weight", 0.5): 1.5,
        ("weight", 0.9): 0.6,
        ("longer", 0.0): 2.5,
    }
    accuracies = {("dense", 0.0): 0.90, ("weight", 0.5): 0.91, ("weight", 0.9): 0.88}
    accuracies["longer", 0.0] = 0.905
    made = run_of(
        {cell: [mean + 0.001 * (i % 3) for i in range(6)] for cell, mean in accuracies.items()},
        arms,
        paired=True,
    )
    keys = {
        cell: tuple(t.key for t in made.study.trials if (t.arm, t.level) == cell)
        for cell in strengths
    }
    joints = [_attacked(keys[cell], leak(strength)) for cell, strength in strengths.items()]
    joints += [
        _released(keys[cell], keys["dense", 0.0], leak(1.0)) for cell in strengths if cell[1] > 0
    ]
    return Run(made.study, made.records, made.phases, tuple(joints))


def _attacked(keys: tuple[str, ...], leakage: Leakage) -> JointRecord:
    measures: dict[str, dict[str, float]] = {one: {} for one in keys}
    for attack in leakage.attacks:
        for target in attack.per_model:
            named = {f"{attack.name}_{name}": v for name, v in target.measures.items()}
            measures[keys[target.model]] |= named
    return JointRecord(
        key=key("leakage", keys),
        kind="leakage",
        records=keys,
        measures=measures,
        leakage=leakage,
        pictures=tuple("iVBORw0KGgo=" for _ in leakage.exposed),
        seconds=1.0,
        environment=ENVIRONMENT,
    )


def _released(keys: tuple[str, ...], others: tuple[str, ...], leakage: Leakage) -> JointRecord:
    change = Estimate(value=-0.02, low=-0.03, high=-0.01)
    return JointRecord(
        key=key("releases", keys),
        kind="releases",
        records=keys,
        others=others,
        measures={},
        joint=leakage.attack("lira_online").model_copy(update={"name": "joint"}),
        foreign=leakage.attack("loss").model_copy(update={"name": "foreign"}),
        change=LeakageChange(
            units=3,
            auc=change,
            balanced_accuracy=change,
            tpr_at=((0.01, change), (0.001, change)),
            evidence=change,
            examples_rising=0.03,
            examples_falling=0.25,
        ),
        seconds=1.0,
        environment=ENVIRONMENT,
    )


@pytest.fixture(scope="session")
def leaky() -> Run:
    return leaky_run()


@pytest.fixture(scope="session")
def make_leakage() -> Callable[..., Leakage]:
    return leak


@pytest.fixture(scope="session")
def make_arm() -> Callable[..., Arm]:
    return arm
