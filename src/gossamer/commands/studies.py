"""`gossamer studies`: what there is to run, to copy and to check against."""

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from gossamer.commands.completion import studies_beginning

EPILOG = (
    "Exit codes: 0 printed, 2 wrong input, 130 interrupted.\n\n"
    "Examples:\n\n"
    "`gossamer studies`  \n"
    "`gossamer studies --show weight-vs-unit > my-study.toml`  \n"
    "`gossamer studies --schema > study.schema.json`"
)
"""What follows the options in the command's help."""


def studies(
    show: Annotated[
        str | None,
        typer.Option(
            metavar="STUDY",
            help="Print the file of a study, to copy and change.",
            autocompletion=studies_beginning,
        ),
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of study files, for editors.")
    ] = False,
) -> None:
    """List the built-in studies, one line each."""
    from gossamer.studies.spec import builtin_names, read_study

    if show is not None:
        typer.echo(read_study(show)[1], nl=False)
        return
    if schema:
        from gossamer.studies.schema import study_schema

        typer.echo(json.dumps(study_schema(), indent=2))
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    for name in builtin_names():
        spec, _ = read_study(name)
        table.add_row(f"[bold]{name}[/bold]", spec.title)
    Console().print(table)
