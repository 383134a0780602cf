"""How far something is: a bar on a terminal, elsewhere lines where it takes long."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gossamer.core.formats import counted

_PATIENCE = 2.0
"""Seconds after which a function that was called tells what it is doing."""

_SHOWN: ContextVar[bool] = ContextVar("shown", default=False)

Follow = Callable[[int, int, str], None]
"""Told how much is done, out of how much, and what comes next."""


@contextmanager
def followed(
    console: Console, unit: str, *, patience: float = _PATIENCE, redraws: bool = True
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


@contextmanager
def shown_already() -> Iterator[None]:
    """Let functions that are called meanwhile be silent, as something around them tells enough."""
    before = _SHOWN.set(True)
    try:
        yield
    finally:
        _SHOWN.reset(before)


@contextmanager
def patiently(unit: str, steps: int) -> Iterator[Callable[[str], None]]:
    """Show on standard error what a function is doing, if that takes more than two seconds.

    Parameters
    ----------
    unit
        What it goes by, in the singular, such as "compression step".
    steps
        How many there are; each is told when it begins.
    """
    if _SHOWN.get():
        yield lambda _what: None
        return
    started, done = time.monotonic(), 0
    follow: Follow | None = None
    with ExitStack() as showing:

        def tell(what: str) -> None:
            nonlocal done, follow
            if follow is None and time.monotonic() - started > _PATIENCE:
                console = Console(stderr=True, highlight=False)
                # Redrawing would take time from what is timed.
                shown = followed(console, unit, patience=-1.0, redraws=False)
                follow = showing.enter_context(shown)
            if follow is not None:
                follow(done, steps, what)
            done += 1

        yield tell
