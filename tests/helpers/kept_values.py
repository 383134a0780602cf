"""Values that tests keep in stores."""

from gossamer.records.record import Arm, Environment, Epoch, Phase, Record, StudyRun

ENVIRONMENT = Environment(
    gossamer="0.1.0",
    python="3.11",
    torch="2.13.0",
    libraries={},
    processor="one",
    machine="Linux",
    threads=1,
    device="cpu",
    revision=None,
)


def phase(key: str, seconds: float = 1.0) -> Phase:
    return Phase(
        key=key,
        parent="p",
        step={"step": "train", "epochs": 1},
        precision="float32",
        optimizer_steps=3,
        examples=9,
        seconds=seconds,
        stopped=None,
        history=(Epoch(epoch=1, rate=0.1, train_loss=0.7, train_accuracy=0.5),),
        environment=ENVIRONMENT,
    )


def record(key: str, accuracy: float = 0.9) -> Record:
    return Record(
        key=key,
        identity={"seed": 0},
        phases=("p",),
        measures={"test_accuracy": accuracy},
        per_class={"test": (accuracy, 0.1)},
        layers=(),
        seconds=0.1,
        environment=ENVIRONMENT,
    )


def study(name: str, command: str = "gossamer run") -> StudyRun:
    return StudyRun(
        name=name,
        title="A study",
        question="Does it hold?",
        scale="quick",
        axis="sparsity",
        dataset="digits",
        network="mlp",
        notes=(),
        arms=(
            Arm(
                name="dense",
                label="Dense",
                role="baseline",
                recipe=(),
                dataset="digits",
                network="mlp",
            ),
        ),
        published=None,
        trials=(),
        command=command,
        file="",
    )
