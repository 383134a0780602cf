"""`gossamer audit`: read a file of predictions, audit it, say what was found, write the page."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from gossamer.commands.console import PatientConsole, check_folder, echo
from gossamer.commands.ending import FAILED
from gossamer.core.errors import InputError
from gossamer.core.formats import compact
from gossamer.core.progress import followed

if TYPE_CHECKING:
    from gossamer.core.arrays import StoredArray
    from gossamer.records.example_scores import ExampleScores
    from gossamer.records.leakage import Leakage

EPILOG = (
    "What FILE.npz holds:\n\n"
    "`logits` [models, examples, classes] or [examples, classes]; or `probabilities`  \n"
    "`labels` [examples]: class numbers from 0, or one-hot rows  \n"
    "`members` [models, examples] or [examples]: true where the model trained on it  \n"
    "`pairs` [models]: only if models were trained two by two on complementary halves\n\n"
    "Exit codes: 0 audited, and within `--max-tpr` where it is given; 1 a self-test failed; "
    "2 wrong input; 3 more than `--max-tpr` is found, or cannot be excluded; 130 interrupted.\n\n"
    "Examples:\n\n"
    "`gossamer audit predictions.npz`  \n"
    "`gossamer audit predictions.npz --dry-run`  \n"
    "`gossamer audit predictions.npz --attacks loss,lira_online --out audits/second`  \n"
    "`gossamer audit predictions.npz --max-tpr 0.01 --at-fpr 0.001`  \n"
    "`gossamer audit predictions.npz --attacks rmia,base --temperature 2`  \n"
    "`gossamer audit predictions.npz --json > leakage.json`"
)
"""What follows the options in the command's help."""

_LIMIT_FAILED = 3


def audit(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.npz", help="What models say of which examples.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for the page. [default: runs/audit-FILE]"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of splits, resamples and self-tests.")] = 0,
    attacks: Annotated[
        str | None, typer.Option(metavar="NAME,...", help="Only these. [default: the usual ones]")
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="Of RMIA and BASE; to be chosen before looking.")
    ] = 1.0,
    max_tpr: Annotated[
        float | None,
        typer.Option(help="Fail (exit code 3) unless more true positives can be excluded."),
    ] = None,
    at_fpr: Annotated[
        float | None,
        typer.Option(help="At which false-positive rate: 0.001 or 0.01. [default: 0.001]"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all numbers as JSON and nothing else.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what is in FILE.npz and what can be done.")
    ] = False,
) -> None:
    """Measure what models give away about the examples they were trained on.

    Attacks each model of the file by membership inference, prints a table and a plain sentence,
    tests itself, and writes a page with the ROC curves.
    """
    names = _attack_names(attacks)
    console = PatientConsole(highlight=False)
    if dry_run and as_json:
        raise InputError(
            "--json: a dry run has no numbers to print; leave out --json or --dry-run."
        )
    limit = _limit(max_tpr, at_fpr)
    if dry_run:
        _preview(console, file, names)
        return
    folder = out or Path("runs") / f"audit-{file.stem}"
    leakage, scores = _audited(file, folder, names, seed, temperature)
    if limit is not None:
        leakage = leakage.model_copy(update={"judgement": leakage.judge(*limit)})
    # What was found is said before anything is written: a full disk must not lose it.
    _say(console, leakage, file.name, as_json=as_json)
    echo(str(_written(leakage, scores, folder, file.name).resolve()), err=as_json)
    if not leakage.passed:
        raise typer.Exit(FAILED)
    if leakage.judgement and not leakage.judgement.passed:
        raise typer.Exit(_LIMIT_FAILED)


def _limit(max_tpr: float | None, at_fpr: float | None) -> tuple[float, float] | None:
    """Return what leak is tolerated; complain of a limit that says nothing before the audit."""
    from gossamer.leakage.evaluation import RATES
    from gossamer.records.leakage import check_limit

    if max_tpr is None:
        if at_fpr is not None:
            raise InputError("--at-fpr: needs --max-tpr, the share of true positives tolerated.")
        return None
    limit = (max_tpr, min(RATES) if at_fpr is None else at_fpr)
    try:
        check_limit(*limit, RATES)
    except InputError as error:
        raise InputError(f"--{error}") from error
    return limit


def _attack_names(text: str | None) -> tuple[str, ...]:
    """Take the names of attacks apart; complain of unknown ones before a large file is read."""
    from gossamer.leakage.attacks import chosen_attacks

    if text is None:
        return chosen_attacks(None)
    return chosen_attacks([name.strip() for name in text.split(",") if name.strip()])


def _preview(console: Console, file: Path, names: tuple[str, ...]) -> None:
    from gossamer.commands.audit_tables import previewed
    from gossamer.leakage.archive import read_contents
    from gossamer.leakage.dry_run import dry_run

    contents = read_contents(file)
    with followed(Console(stderr=True, highlight=False), "model") as follow, _naming(file):
        seen = dry_run(contents, names, follow)
    for part in previewed(seen, file.name):
        console.print(part)


def _audited(
    file: Path, folder: Path, names: tuple[str, ...], seed: int, temperature: float
) -> tuple["Leakage", "ExampleScores"]:
    with followed(Console(stderr=True, highlight=False), "part") as follow:
        follow(0, 1, f"Reading {file.name}")
        from gossamer.leakage import audit as audit_arrays
        from gossamer.leakage.archive import read_archive

        given = read_archive(file)
        follow(0, 1, f"{file.name}, {_sizes(given.logits)}")
        check_folder(folder)
        kept: list[ExampleScores] = []
        with _naming(file):
            leakage = audit_arrays(
                given.logits,
                given.labels,
                given.members,
                pairs=given.pairs,
                probabilities=given.probabilities,
                attacks=names,
                temperature=temperature,
                seed=seed,
                progress=follow,
                keep_scores=kept.append,
                source=given.source,
            )
        return leakage, kept[0]


def _sizes(scores: "StoredArray") -> str:
    """Say how much is about to be read; compressed, a file can be a thousand times smaller."""
    return f"{scores.name} {list(scores.shape)}, {compact(scores.header.size, 'B')} unpacked"


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Let complaints about arrays name the file that these come from."""
    try:
        yield
    except InputError as error:
        if str(error).startswith(f"{file}: "):  # of the file itself, which is read late in parts
            raise
        raise InputError(f"{file}: {error}") from error


def _say(console: Console, leakage: "Leakage", name: str, *, as_json: bool) -> None:
    from gossamer.commands.audit_tables import described, failures

    if not as_json:
        for part in described(leakage, name, console.width):
            console.print(part)
        return
    for failure in failures(leakage):
        Console(stderr=True).print(failure)
    echo(json.dumps(leakage.to_dict(), ensure_ascii=False, indent=2, allow_nan=False))


def _written(leakage: "Leakage", scores: "ExampleScores", folder: Path, title: str) -> Path:
    with Console(stderr=True).status("Writing the page"):
        from gossamer.reporting.audit_page import write_audit

        return write_audit(leakage, folder, title, scores)
