"""`gossamer shrink`: the smallest or fastest network within an accuracy budget, with evidence."""

import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from gossamer.commands.console import check_folder, echo
from gossamer.commands.ending import INTERRUPTED
from gossamer.commands.own_network import Arguments, Excluded, Higher, Model
from gossamer.commands.stopping import stopping
from gossamer.core.errors import InputError

if TYPE_CHECKING:
    from gossamer.shrinking.options import Options
    from gossamer.shrinking.resolving import Given
    from gossamer.shrinking.within_budget import Begun

EPILOG = (
    "MODEL is package.module:callable or file.py:callable that returns your network, or a "
    "built-in one. DATA is an .npz file (x_train, y_train, x_test, y_test and, better, "
    "x_validation, y_validation), a folder of images, a built-in dataset, or module:callable that "
    "gives a mapping with train, validation and test.\n\n"
    "Written to the folder: network.gsm, model.safetensors, model.onnx, mask.safetensors, "
    "trials.csv and report.html. The same command goes on after a kill.\n\n"
    "Exit codes: 0 searched, even if nothing smaller was found, 2 wrong input, 130 interrupted; "
    "the best so far is written all the same.\n\n"
    "Examples:\n\n"
    "`gossamer shrink my_pkg.nets:build --weights best.pt --data my_pkg.data:load`  \n"
    "`gossamer shrink nets.py:Small --weights best.pt --data mine.npz --max-drop 0.01 --out small`"
    "  \n"
    "`gossamer shrink nets.py:Small --weights best.pt --data mine.npz --dry-run`  \n"
    "`gossamer shrink nets.py:Small --weights best.pt --data mine.npz --target size --batch 1`"
)
"""What follows the options in the command's help."""

_STDERR = Console(stderr=True, highlight=False, emoji=False)


class TargetName(StrEnum):
    """What is made as small as the budget allows."""

    latency = "latency"
    size = "size"
    flops = "flops"


class PrecisionName(StrEnum):
    """What is trained in."""

    auto = "auto"
    float32 = "float32"
    bf16 = "bf16"


class PatternName(StrEnum):
    """What is pruned as one."""

    auto = "auto"
    weight = "weight"
    block = "block"
    unit = "unit"
    unit_weight = "unit+weight"


Weights = Annotated[Path, typer.Option(metavar="FILE", help="Its state_dict, .safetensors or .pt.")]
DataSource = Annotated[
    str, typer.Option("--data", metavar="DATA", help="What it is trained and judged on.")
]
Drop = Annotated[
    float | None, typer.Option(help="By how much the metric may get worse. [default: 0.005]")
]
Least = Annotated[
    float | None, typer.Option("--min-accuracy", help="What must be reached, instead of a drop.")
]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder for all that comes out.")]
Limit = Annotated[
    float | None, typer.Option(metavar="SECONDS", help="How long the search may take, about.")
]
Epochs = Annotated[
    int,
    typer.Option(min=1, help="Of fine-tuning in all: 1.5 times those of the training is plenty."),
]
Multiple = Annotated[
    int, typer.Option(min=1, help="Layers keep a multiple of so many units; prunes whole ones.")
]
Features = Annotated[
    bool, typer.Option("--distill-features", help="Learn what the output layer reads, too.")
]
Own = Annotated[str | None, typer.Option(metavar="MODULE:CALLABLE")]


def shrink(
    model: Model,
    weights: Weights,
    data: DataSource,
    max_drop: Drop = None,
    min_accuracy: Least = None,
    target: Annotated[TargetName, typer.Option(help="What shall shrink.")] = TargetName.latency,
    pattern: Annotated[
        PatternName, typer.Option(help="What is pruned as one; auto finds out.")
    ] = PatternName.auto,
    batch: Annotated[int, typer.Option(min=1, help="Batch size that is timed.")] = 64,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads that are used. [default: all cores]")
    ] = None,
    exclude: Excluded = None,
    keep_units_multiple_of: Multiple = 1,
    confidence: Annotated[float, typer.Option(help="Of the bound on the drop.")] = 0.95,
    epochs: Epochs = 30,
    rate: Annotated[float | None, typer.Option(help="Of Adam. [default: found out]")] = None,
    distill_features: Features = False,
    precision: Annotated[
        PrecisionName, typer.Option(help="Of training; auto: bf16 where that is faster.")
    ] = PrecisionName.auto,
    time_limit: Limit = None,
    network_arg: Arguments = None,
    loss: Own = None,
    metric: Own = None,
    higher_is_better: Higher = None,
    train: Own = None,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn.")] = 0,
    out: Out = Path("shrunk"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Measure the network, say how long it takes, stop.")
    ] = False,
) -> None:
    """Find the fastest or smallest network within an accuracy budget.

    Prunes the network step by step, trains it in between towards what it gave, times each
    candidate and tests it on validation data; takes the last one that surely keeps the budget, and
    writes it with all that was measured.
    """
    if max_drop is not None and min_accuracy is not None:
        raise InputError("--min-accuracy: cannot stand beside --max-drop; leave one of them out.")
    check_folder(out, what_for="the network and its evidence")
    from gossamer.core.system import available_cores
    from gossamer.networks.arguments import parsed_arguments
    from gossamer.networks.imported import imported_value
    from gossamer.shrinking.judging import check_asked
    from gossamer.shrinking.options import options_of, usual_batch
    from gossamer.shrinking.resolving import resolved

    options = options_of(
        max_drop=max_drop, min_accuracy=min_accuracy, target=target.value, pattern=pattern.value,
        batch=batch, threads=threads or available_cores(), exclude=tuple(exclude or ()),
        keep_units_multiple_of=keep_units_multiple_of, confidence=confidence, epochs=epochs,
        rate=rate, distill_features=distill_features, precision=precision.value, seed=seed,
    )  # fmt: skip
    given = resolved(
        model, data, weights, arguments=parsed_arguments(network_arg or ()), loss=loss,
        metric=metric, higher_is_better=higher_is_better, seed=seed,
    )  # fmt: skip
    check_asked(given.task, max_drop, min_accuracy)
    options = replace(options, train_batch=usual_batch(len(given.data.train)))
    own = None if train is None else imported_value(train, "training", called=False)
    raise typer.Exit(_shrunk(given, options, own, out, time_limit, dry_run))


def _shrunk(
    given: "Given",
    options: "Options",
    train: Callable[..., object] | None,
    out: Path,
    time_limit: float | None,
    dry_run: bool,
) -> int:
    """Search, say what was found, and return the exit code."""
    from gossamer.core.formats import duration
    from gossamer.shrinking.within_budget import begin

    began = time.monotonic()

    def follow(what: str) -> None:
        _say(f"{duration(time.monotonic() - began):>9}  {what}")

    with stopping(_say) as should_stop:
        begun = begin(
            given.network, given.data, given.task, options, train=train,
            out=None if dry_run else out, time_limit=time_limit, follow=follow, stop=should_stop,
        )  # fmt: skip
        for remark in begun.known.remarks:
            _say(f"- {remark}")
        _say(f"Expected: {begun.known.foretold}.")
        if dry_run:
            return 0
        _finished(begun, out)
        if should_stop():
            _say("Stopped; the best so far is written, and the same command goes on.")
            return INTERRUPTED
    return 0


def _finished(begun: "Begun", out: Path) -> None:
    """Search to the end and print what was found."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RuntimeWarning)
        found = begun.finish()
    said = set(begun.known.remarks)
    for text in dict.fromkeys(str(one.message) for one in caught):
        if text not in said:
            _say(f"- {text}")
    echo(str(found))
    page = out / "report.html"
    echo(str((page if page.is_file() else out).resolve()))


def _say(text: str) -> None:
    _STDERR.print(text, markup=False, soft_wrap=True)
