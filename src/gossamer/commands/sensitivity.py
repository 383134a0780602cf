"""`gossamer sensitivity`: which layers of a network bear pruning, found without training."""

import json
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from gossamer.commands.console import PatientConsole, check_folder, echo
from gossamer.commands.ending import INTERRUPTED, say
from gossamer.commands.own_network import Arguments, Excluded, Higher, Model
from gossamer.core.errors import InputError, MissingPackageError
from gossamer.core.formats import compact, counted, duration
from gossamer.core.installing import needing
from gossamer.core.progress import followed

if TYPE_CHECKING:
    from gossamer.records.sensitivity import LayerSensitivity, Sensitivity
    from gossamer.shrinking.resolving import Given
    from gossamer.shrinking.sensitivity import Probe

EPILOG = (
    "DATA is an .npz file as studies take it, a folder of images (train/CLASS/*.png), a built-in "
    "dataset, or `package.module:callable` that gives train, validation and test.\n\n"
    "Exit codes: 0 measured, 2 wrong input, 130 interrupted; what was measured until then is shown "
    "and written all the same.\n\n"
    "Examples:\n\n"
    "`gossamer sensitivity my_pkg.nets:build --weights best.pt --data my_pkg.data:load`  \n"
    "`gossamer sensitivity nets.py:build --weights best.pt --data mine.npz --pattern unit`  \n"
    "`gossamer sensitivity fashion-cnn --weights f.safetensors --data fashion-mnist --out s/`  \n"
    "`gossamer sensitivity nets.py:depth --data d.py:load --loss d.py:mse --metric d.py:error "
    "--lower-is-better`"
)
"""What follows the options in the command's help."""

_STDERR = Console(stderr=True, highlight=False, emoji=False)


class PatternName(StrEnum):
    """What is pruned as one."""

    weight = "weight"
    unit = "unit"
    block = "block"


DataSource = Annotated[
    str, typer.Option("--data", metavar="DATA", help="What it is measured on; see below.")
]
Weights = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Its state_dict, .safetensors or .pt. [default: as it is made]"
    ),
]
Levels = Annotated[
    list[float] | None,
    typer.Option(help="Sparsity; may be repeated. [default: 0.5, 0.7, 0.8, 0.9, 0.95]"),
]
Examples = Annotated[int, typer.Option(min=2, help="Validation examples that are used.")]
Loss = Annotated[
    str | None,
    typer.Option(metavar="MODULE:CALLABLE", help="Of outputs and targets, the mean of a batch."),
]
Metric = Annotated[
    str | None,
    typer.Option(metavar="MODULE:CALLABLE", help="The same, with a number for each example."),
]
Out = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Folder for the table as CSV and the figure.")
]


def sensitivity(
    model: Model,
    data: DataSource,
    weights: Weights = None,
    level: Levels = None,
    pattern: Annotated[
        PatternName, typer.Option(help="What is pruned as one; blocks are of 4×1 weights.")
    ] = PatternName.weight,
    exclude: Excluded = None,
    examples: Examples = 2000,
    loss: Loss = None,
    metric: Metric = None,
    higher_is_better: Higher = None,
    network_arg: Arguments = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides which examples are used.")] = 0,
    out: Out = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all numbers as JSON and nothing else.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be measured and how long it takes.")
    ] = False,
) -> None:
    """Find out which layers of a network bear pruning; nothing is trained.

    Prunes each layer alone at several sparsities and measures how much the accuracy, or a metric of
    your own, drops on the same validation examples.
    """
    if dry_run and as_json:
        raise InputError(
            "--json: a dry run has no numbers to print; leave out --json or --dry-run."
        )
    if out is not None:
        check_folder(out, what_for="table and figure")
    from gossamer.masks import Block
    from gossamer.networks.arguments import parsed_arguments
    from gossamer.shrinking.resolving import resolved
    from gossamer.shrinking.sensitivity import LEVELS, probe

    with _STDERR.status("Reading network and data"):
        given = resolved(
            model, data, weights, arguments=parsed_arguments(network_arg or ()), loss=loss,
            metric=metric, higher_is_better=higher_is_better, seed=seed, test=False,
        )  # fmt: skip
        kind = Block(4, 1) if pattern is PatternName.block else pattern.value
        ready = probe(
            given.network, given.data, given.task, level or LEVELS, kind, None, exclude or (),
            examples, seed,
        )  # fmt: skip
    for note in given.notes:
        say(note)
    if dry_run:
        PatientConsole(highlight=False).print(_preview(model, given, ready))
        return
    raise typer.Exit(_looked(model, given, ready, seed, out, as_json=as_json))


def _looked(
    model: str, given: "Given", ready: "Probe", seed: int, out: Path | None, *, as_json: bool
) -> int:
    """Measure, show and write what was found, and return the exit code."""
    from gossamer.shrinking.sensitivity import summary

    begun = time.monotonic()
    layers, code = _measured(ready)
    found = summary(ready, layers, given.data, model, seed, time.monotonic() - begun)
    _show(found, as_json=as_json)
    if out is not None and layers:
        _write(found, out, as_json=as_json)
    return code


def _preview(model: str, given: "Given", ready: "Probe") -> Text:
    layers, levels = counted(len(ready.groups), "layer"), counted(len(ready.levels), "level")
    return Text(
        f"{model} on {len(ready.values):,} of the {len(given.data.validation):,} validation "
        f"examples of {given.data.name}: {layers} at {levels}, about {duration(ready.forecast)}."
    )


def _measured(ready: "Probe") -> tuple[list["LayerSensitivity"], int]:
    """Measure layer after layer until somebody puts an end to it."""
    found: list[LayerSensitivity] = []
    total = len(ready.groups)
    try:
        with followed(_STDERR, "layer") as follow:
            for names in ready.groups:
                follow(len(found), total, names[0])
                found.append(ready.of(names))
    except KeyboardInterrupt:
        _STDERR.print(f"Interrupted after {counted(len(found), 'layer')} of {total}.")
        return found, INTERRUPTED
    return found, 0


def _show(found: "Sensitivity", *, as_json: bool) -> None:
    if as_json:
        echo(json.dumps(found.to_dict(), ensure_ascii=False, indent=2, allow_nan=False))
        return
    console = PatientConsole(highlight=False)
    for part in _described(found):
        console.print(part)


def _described(found: "Sensitivity") -> Iterator[RenderableType]:
    from gossamer.reporting.sensitivity import amount, subtitle, unit

    yield Text(f"{subtitle(found)}. Lost by pruning one layer alone, in {unit(found)}:\n")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("Layer")
    table.add_column("Weights", justify="right")
    levels = [one.asked for one in found.layers[0].levels] if found.layers else []
    for asked in levels:
        table.add_column(f"{100 * asked:g}%", justify="right")
    for layer in found.layers:
        cells = (Text(amount(found, one.drop), style=_style(one.low)) for one in layer.levels)
        table.add_row(layer.label, compact(layer.weights), *cells)
    yield table
    yield ""
    if found.left_alone:
        yield Text("Left alone: " + "; ".join(f"{n} {why}" for n, why in found.left_alone.items()))


def _style(low: float) -> str:
    """Let what may be chance step back."""
    return "dim" if low <= 0 else ""


def _write(found: "Sensitivity", folder: Path, *, as_json: bool) -> None:
    """Write the files, and say where they are; the figure alone needs plotting libraries."""
    try:
        with needing("studies", "the figure of these numbers"):
            from gossamer.reporting.sensitivity import write_sensitivity
    except MissingPackageError as missing:
        echo(f"No figure was written: {missing}", err=True)
        return
    echo(str(write_sensitivity(found, folder).resolve()), err=as_json)
