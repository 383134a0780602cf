import io
import re

import pytest
from rich.console import Console

from gossamer.core.progress import followed, patiently, shown_already


def test_plain_lines_tell_now_and_then_what_comes_next(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 1.0, 6.0, 6.0, 7.0, 20.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    text = io.StringIO()
    with followed(Console(file=text), "row", patience=5.0) as follow:
        follow(0, 3, "too early")
        follow(1, 3, "timing [bold]")
        follow(2, 3, "too early again")
        follow(3, 3, "")
    assert text.getvalue() == "1 of 3 rows done; next: timing [bold]\n"


@pytest.mark.parametrize("redraws", [True, False])
def test_a_terminal_sees_a_bar_that_goes_when_all_is_done(redraws: bool) -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=80, color_system=None)
    with followed(console, "row", redraws=redraws) as follow:
        follow(1, 3, "timing [bold]")
    drawn = text.getvalue()
    assert re.search(r"timing \[bold\] .*1/3", drawn)
    assert drawn.endswith("\x1b[2K")  # the line is cleared


def test_a_function_that_takes_long_tells_on_standard_error_what_it_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with patiently("compression step", 3) as tell:
        tell("at once")
        now = 2.5
        tell("timing [bold]")
        tell("last")
    with patiently("compression step", 1) as tell:  # it is fast
        tell("only")
        now += 2
    with shown_already(), patiently("compression step", 1) as tell:
        now += 5
        tell("only")
    told = capsys.readouterr()
    assert told.err == (
        "1 of 3 compression steps done; next: timing [bold]\n"
        "2 of 3 compression steps done; next: last\n"
    )
    assert not told.out
