"""`gossamer report`: the page, the figures and the table of a run, from what its folder holds."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from gossamer.commands.run import saying_what_is_there, write_report_of

EPILOG = (
    "Exit codes: 0 written, 2 wrong input, 130 interrupted.\n\n"
    "Example: `gossamer report runs/weight-vs-unit`"
)
"""What follows the options in the command's help."""


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What `run --out` wrote.")],
) -> None:
    """Write the report of a run, finished or not, from what its folder holds."""
    with saying_what_is_there(folder, shlex.join(["gossamer", *sys.argv[1:]])):
        from gossamer.records.store import Store

        with Store.open(folder) as store:
            write_report_of(store)
