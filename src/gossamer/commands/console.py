"""What commands share that print results, to standard output alone, and write a folder."""

import os
from pathlib import Path

import typer
from rich.console import Console

from gossamer.commands.ending import print_to_nobody
from gossamer.core.errors import InputError


class PatientConsole(Console):
    """Goes on without a reader who has left, as `head` does when it has seen enough."""

    def on_broken_pipe(self) -> None:
        """Print no more."""
        self.quiet = True
        print_to_nobody()


def echo(text: str, *, err: bool = False) -> None:
    """Print, unless the reader has left."""
    try:
        typer.echo(text, err=err)
    except BrokenPipeError:
        print_to_nobody()


def check_folder(folder: Path, option: str = "--out", what_for: str = "the page") -> None:
    """Find out before the work, not after it, that what it makes cannot be written.

    Raises
    ------
    InputError
        If the option names no folder that can be made or written.
    """
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        what = "is no folder" if not there.is_dir() else "cannot be written"
        possible = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    except OSError as error:
        there, what, possible = folder, f"is impossible ({error.strerror})", False
    if not possible:
        raise InputError(f"{option} {folder}: {there} {what}, expected a folder for {what_for}.")
