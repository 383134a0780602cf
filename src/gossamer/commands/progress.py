"""How far a command is: a bar on a terminal, elsewhere lines where it takes long."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gossamer.core.formats import counted

Follow = Callable[[int, int, str], None]
"""Told how much is done, out of how much, and what comes next."""


@contextmanager
def followed(
    console: Console, unit: str, *, patience: float = 2.0, redraws: bool = True
) -> Iterator[Follow]:
    """Show how far something is that tells so.

    Parameters
    ----------
    console
        Where; of standard error, as results alone go to standard output.
    unit
        What is counted, in the singular.
    patience
        Seconds after which a reader of plain lines is told what is going on.
    redraws
        Whether the bar is redrawn in between, too, which takes a core now and then.
    """
    if not console.is_terminal:
        yield _lines(console, unit, patience)
        return
    text = TextColumn("{task.description}", markup=False)
    columns = text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, auto_refresh=redraws) as progress:
        task = progress.add_task("", total=None)
        yield lambda done, total, what: progress.update(
            task, completed=done, total=total, description=what, refresh=True
        )


def _lines(console: Console, unit: str, patience: float) -> Follow:
    last = time.monotonic()

    def follow(done: int, total: int, what: str) -> None:
        nonlocal last
        if what and time.monotonic() - last > patience:
            text = f"{done} of {counted(total, unit)} done; next: {what}"
            console.print(text, markup=False, soft_wrap=True)
            last = time.monotonic()

    return follow
