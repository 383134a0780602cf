"""The options of `gossamer run`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gossamer.commands.completion import studies_beginning


class ScaleName(StrEnum):
    """How large a study is run."""

    quick = "quick"
    medium = "medium"
    paper = "paper"


class AlikeName(StrEnum):
    """What the workers of a cluster must have as it is here."""

    torch = "torch"
    all = "all"
    any = "any"


class DeviceName(StrEnum):
    """What trains and measures."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


Study = Annotated[
    str, typer.Argument(help="A built-in study, or a TOML file.", autocompletion=studies_beginning)
]
Scale = Annotated[
    ScaleName | None,
    typer.Option(
        help="quick: a first answer in about ten minutes on two idle cores; medium: within a "
        "few hours; paper: as published. [default: quick]"
    ),
]
Seeds = Annotated[int | None, typer.Option(min=1, help="How many seeds. [default: the scale's]")]
Jobs = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Processes, or workers of a cluster at most. [default: what is fastest; all workers]",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1, help="Threads of each process. [default: OMP_NUM_THREADS, else what is fastest]"
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Let the workers of a Dask cluster do it; they need not see the folders.",
    ),
]
States = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Have the workers of a cluster keep states and statistics there, such as "
        "s3://bucket/folder. [default: in the folder for results]",
    ),
]
Alike = Annotated[
    AlikeName,
    typer.Option(
        help="What workers must have as it is here: torch, all (NumPy, Python and processor, "
        "too), or any; what may differ stands in the records."
    ),
]
ResultsFolder = Annotated[
    Path | None,
    typer.Option(help="Folder for results; what is there is used. [default: runs/NAME of study]"),
]
DataFolder = Annotated[
    Path | None,
    typer.Option(help="Folder of datasets on disk. [default: $GOSSAMER_DATA, else download]"),
]
Trainer = Annotated[DeviceName, typer.Option(help="What trains.")]
Curves = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Write losses, graph and weights for TensorBoard."),
]
TrialTimeout = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        min=0.001,
        help="The most that a training, or measuring a trial, may take; what takes longer fails.",
    ),
]
TrialMemory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="The most that its process may hold, such as 4GB; what holds more fails.",
    ),
]
MaxFailures = Annotated[
    int | None,
    typer.Option(min=1, help="Stop after so many failures. [default: go on with the rest]"),
]
RetryFailed = Annotated[
    bool,
    typer.Option(
        "--retry-failed",
        help="Try again what cost its process or went over a limit, which is left out otherwise.",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the plan and the estimated time; do nothing.")
]
