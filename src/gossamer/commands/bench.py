"""`gossamer bench`: time a network dense and sparse on this machine, and say where sparse pays."""

import json
import math
from collections.abc import Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from gossamer.commands.completion import NETWORKS, networks_beginning
from gossamer.commands.console import PatientConsole, check_folder, echo
from gossamer.commands.ending import FAILED, INTERRUPTED
from gossamer.core.errors import GossamerError, InputError, MissingPackageError
from gossamer.core.formats import counted, likeliest
from gossamer.core.installing import needing
from gossamer.core.progress import followed

if TYPE_CHECKING:
    from gossamer.benchmarking.subjects import Case, Subject
    from gossamer.records.speed import Row, Speed

EPILOG = (
    "MODEL is mlp, fashion-cnn, mnist-cnn, cifar-cnn, cifar-dropout-cnn, cifar-wide-cnn, "
    "wide-head, `package.module:callable` or `file.py:callable` for your own, or a compressed "
    "file, which is timed as it is.\n\n"
    "Weights that hold zeros are timed as they are, and pruned further.\n\n"
    "Exit codes: 0 measured, 1 a process died, 2 wrong input, 130 interrupted; what was measured "
    "until then is shown all the same.\n\n"
    "Examples:\n\n"
    "`gossamer bench fashion-cnn`  \n"
    "`gossamer bench mlp --sparsity 0.9 --batch 64 --threads 1`  \n"
    "`gossamer bench my.networks:small --input-shape 3,224,224 --network-arg width=32`  \n"
    "`gossamer bench my.networks:small --input-shape 3,224,224 --weights checkpoint.pt`  \n"
    "`gossamer bench cifar-cnn --weights trained.safetensors --pattern block --json > s.json`  \n"
    "`gossamer bench small.gsm`"
)
"""What follows the options in the command's help."""

SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
BATCHES = (1, 64, 1024)
_PREPARING_SECONDS = 4.0
"""What pruning, converting and choosing take a row, about."""
_COMPILING_SECONDS = 40.0


class PatternName(StrEnum):
    """What is pruned as one."""

    weight = "weight"
    unit = "unit"
    block = "block"


Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A built-in network, package.module:callable, file.py:callable, or FILE.gsm.",
        autocompletion=networks_beginning,
    ),
]
Sparsities = Annotated[
    list[float] | None,
    typer.Option(help="Share of zeros; may be repeated. [default: 0.5 to 0.99]"),
]
Batches = Annotated[
    list[int] | None,
    typer.Option(min=1, help="Batch size; may be repeated. [default: 1, 64, 1024]"),
]
ThreadCounts = Annotated[
    list[int] | None,
    typer.Option(min=1, help="Threads; may be repeated. [default: 1, and all cores]"),
]
PrunedAsOne = Annotated[
    PatternName, typer.Option(help="What is pruned as one; blocks are of 4×1 weights.")
]
InputShape = Annotated[
    str | None,
    typer.Option(metavar="C,H,W", help="Of one example. [default: the published dataset's]"),
]
Classes = Annotated[
    int | None,
    typer.Option(min=1, help="Outputs of a built-in network; your own says itself. [default: 10]"),
]
NetworkArguments = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="Argument of the callable; may be repeated."),
]
WeightsFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Its state_dict, .safetensors or .pt. [default: initial ones]"
    ),
]
Seconds = Annotated[
    float, typer.Option(help="For timing each row of a table, all columns together.")
]
Compiled = Annotated[
    bool, typer.Option("--compile/--no-compile", help="Time torch.compile in one row, too.")
]
PageFolder = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Folder for the page, not of a .gsm. [default: runs/bench-MODEL]"
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print all numbers as JSON and nothing else.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be measured and how long it takes.")
]


def bench(
    model: Model,
    sparsity: Sparsities = None,
    batch: Batches = None,
    threads: ThreadCounts = None,
    pattern: PrunedAsOne = PatternName.weight,
    input_shape: InputShape = None,
    classes: Classes = None,
    network_arg: NetworkArguments = None,
    weights: WeightsFile = None,
    seconds: Seconds = 4.0,
    compiled: Compiled = True,
    out: PageFolder = None,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Compare the speed of a network, dense and sparse, on this machine.

    Prunes the network at several sparsities and times PyTorch (plain, channels_last, bf16,
    compiled), ONNX Runtime and sparse PyTorch against gossamer; prints a table with the
    sparsity from which gossamer is faster, and writes a page with a figure. A compressed file
    is timed as it is: a table alone, no page.
    """
    if dry_run and as_json:
        raise InputError(
            "--json: a dry run has no numbers to print; leave out --json or --dry-run."
        )
    _check_numbers(sparsity or (), threads or (), seconds)
    from gossamer.benchmarking.files import is_compressed

    batches, counts = batch or BATCHES, threads or _usual_threads()
    if is_compressed(model):
        given = {
            "--sparsity": sparsity, "--pattern": pattern is not PatternName.weight,
            "--input-shape": input_shape, "--classes": classes, "--network-arg": network_arg,
            "--weights": weights, "--out": out, "--dry-run": dry_run,
        }  # fmt: skip
        needless = [option for option, value in given.items() if value]
        raise typer.Exit(_bench_file(Path(model), needless, batches, counts, seconds, as_json))
    shape = None if input_shape is None else _shape(input_shape)
    folder = out or Path("runs") / f"bench-{model.replace(':', '-').replace('/', '-')}"
    check_folder(folder)
    from gossamer.benchmarking.subjects import cases, subject
    from gossamer.benchmarking.summary import summarised
    from gossamer.networks.arguments import parsed_arguments

    arguments = parsed_arguments(network_arg or ())
    _check_known(model)
    chosen = subject(model, shape, classes, weights, pattern.value, arguments)
    parameters, zeros = _looked_at(chosen, batches)
    rows = cases(sparsity or SPARSITIES, batches, counts, zeros)
    if dry_run:
        _preview(model, rows, seconds, compiled=compiled)
        return
    found, code = _measured(chosen, rows, seconds, compiled=compiled)
    left_out = sorted(set(sparsity or ()) - {row.sparsity for row in rows})
    speed = summarised(
        chosen, found, parameters, seconds, finished=code == 0, zeros=zeros, left_out=left_out
    )
    # What was found is said before anything is written: a full disk must not lose it.
    _say(speed, as_json=as_json)
    if found:
        _write_page(speed, folder, as_json=as_json)
    raise typer.Exit(code)


def _bench_file(
    path: Path,
    needless: Sequence[str],
    batches: Sequence[int],
    threads: Sequence[int],
    seconds: float,
    as_json: bool,
) -> int:
    """Time a compressed file, print what was found, and return the exit code.

    Raises
    ------
    InputError
        If it is no such file, takes too much memory, or options were given that it has no use for.
    """
    from gossamer.benchmarking.files import file_speed, file_times
    from gossamer.benchmarking.memory import check_memory, file_footprint
    from gossamer.commands.bench_tables import described_file
    from gossamer.records.file_speed import FileTime
    from gossamer.runtime import load

    predictor = load(path)  # whether there is such a file comes before how it is timed
    check_memory(file_footprint(predictor), batches)
    for option in needless:
        raise InputError(
            f"{option}: {path} is compressed already and is timed as it is; leave {option} "
            "out, or name the network that it was made from."
        )
    found: list[FileTime] = []
    code = 0
    try:
        with _followed(_progress()) as follow:
            times = file_times(predictor, batches, threads, seconds=seconds, follow=follow)
            found.extend(times)  # one by one: those before an interruption stay
    except KeyboardInterrupt:
        code = INTERRUPTED
    speed = file_speed(path, predictor, found, seconds, max(threads), finished=code == 0)
    if as_json:
        echo(json.dumps(speed.to_dict(), ensure_ascii=False, indent=2, allow_nan=False))
        return code
    console = PatientConsole(highlight=False)
    for part in described_file(speed):
        console.print(part)
    return code


def _write_page(speed: "Speed", folder: Path, *, as_json: bool) -> None:
    """Write the page, and say where it is; it alone needs plotting libraries."""
    try:
        with needing("studies", "the page of these numbers"):
            from gossamer.reporting.speed import write_speed
    except MissingPackageError as missing:
        echo(f"No page was written: {missing}", err=True)
        return
    echo(str(write_speed(speed, folder).resolve()), err=as_json)


def _check_known(model: str) -> None:
    """Refuse a name that is none of what can be timed, and list all that can be."""
    if ":" in model or model in NETWORKS or Path(model).is_file():
        return
    near = likeliest(model, NETWORKS)
    hint = f" (did you mean {near!r}?)" if near else ""
    raise InputError(
        f"There is no network {model!r}{hint}: give one of {', '.join(NETWORKS)}, "
        "package.module:callable or file.py:callable for your own, or FILE.gsm, a compressed one."
    )


def _check_numbers(sparsities: Sequence[float], threads: Sequence[int], seconds: float) -> None:
    from gossamer.core.system import available_cores

    for sparsity in sparsities:
        if not 0 <= sparsity < 1:
            hint = f"; {sparsity:g}% is {sparsity / 100:g}" if 1 < sparsity < 100 else ""
            raise InputError(
                f"--sparsity {sparsity:g}: a share of zeros from 0 to below 1 was expected{hint}."
            )
    cores = available_cores()
    for count in threads:
        if count > cores:
            raise InputError(
                f"--threads {count}: there are {cores} cores here, and more threads than cores "
                f"wait for each other; give at most {cores}."
            )
    if not 0 < seconds < math.inf:
        raise InputError(f"--seconds {seconds:g}: a positive time was expected.")


def _shape(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(size) for size in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise InputError(
            f"--input-shape {text}: sizes of one example from 1 on, with commas between them, "
            "were expected, such as 1,28,28."
        )
    return sizes


def _usual_threads() -> tuple[int, ...]:
    from gossamer.core.system import available_cores

    return (1, available_cores())


def _looked_at(chosen: "Subject", batches: Sequence[int]) -> tuple[int, float]:
    """Return how many parameters the network has, and its share of zeros before it is pruned.

    What cannot be built, and batches that no memory holds, are complained of before any work.
    """
    from gossamer.benchmarking.memory import check_memory, network_footprint
    from gossamer.benchmarking.subjects import build_network, example_of, share_of_zeros
    from gossamer.masks.storages import parameter_count

    with _progress().status("Building the network"):
        network = build_network(chosen).eval()
        check_memory(network_footprint(network, example_of(chosen)), batches)
    return parameter_count(network), share_of_zeros(network, chosen)


_followed = partial(followed, unit="row", patience=5.0, redraws=False)
"""Nothing is drawn while something is timed."""


def _progress() -> Console:
    return Console(stderr=True, highlight=False, emoji=False)


def _preview(model: str, rows: Sequence["Case"], seconds: float, *, compiled: bool) -> None:
    from gossamer.benchmarking.subjects import compiled_case
    from gossamer.commands.bench_tables import previewed

    compiling = _COMPILING_SECONDS if compiled else 0
    expected = len(rows) * (seconds + _PREPARING_SECONDS) + compiling
    place = compiled_case(rows) if compiled else None
    PatientConsole(highlight=False).print(previewed(model, rows, expected, place))


def _measured(
    chosen: "Subject", rows: Sequence["Case"], seconds: float, *, compiled: bool
) -> tuple[list["Row"], int]:
    """Measure until all is done or somebody or something puts an end to it."""
    from gossamer.benchmarking.measuring import measured_rows
    from gossamer.benchmarking.subjects import compiled_case
    from gossamer.studies.process_settings import tune_process

    found: list[Row] = []
    console = _progress()
    try:
        with _followed(console) as follow:
            for row in measured_rows(
                chosen,
                rows,
                seconds=seconds,
                compiled=compiled_case(rows) if compiled else None,
                follow=lambda what: follow(len(found), len(rows), what),
                begin=partial(tune_process, 1),
            ):
                found.append(row)
                follow(len(found), len(rows), "")
    except KeyboardInterrupt:
        console.print(f"Interrupted after {counted(len(found), 'row')} of {len(rows)}.")
        return found, INTERRUPTED
    except InputError:
        raise
    except GossamerError as error:
        console.print(f"gossamer: {error}", markup=False, soft_wrap=True)
        return found, FAILED
    return found, 0


def _say(speed: "Speed", *, as_json: bool) -> None:
    from gossamer.commands.bench_tables import described

    if as_json:
        echo(json.dumps(speed.to_dict(), ensure_ascii=False, indent=2, allow_nan=False))
        return
    console = PatientConsole(highlight=False)
    for part in described(speed):
        console.print(part)
