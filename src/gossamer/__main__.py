"""The `gossamer` command, and `python -m gossamer`.

`gossamer predict` needs NumPy alone, and so does not wait for what the other commands import; help
and version are there, too, where nothing else is installed.
"""

import os
import sys

from gossamer.core.errors import MissingPackageError
from gossamer.core.installing import (
    NEEDED,
    extra_of_command,
    is_usable,
    needing,
    own_version,
    remedy,
)

_BAD_INPUT = 2
_ABOUT = {
    "predict": "Predict with a compressed network; needs NumPy alone.",
    "bench": "Compare the speed of a network, dense and sparse, on this machine.",
    "audit": "Measure what models give away about the examples they were trained on.",
    "studies": "List the built-in studies, one line each.",
    "run": "Run a study and write its report.",
    "report": "Write the report of a study again.",
}
_STARTS = {
    "bench": "gossamer bench mlp",
    "audit": "gossamer audit predictions.npz --dry-run",
    "predict": "gossamer predict NET.gsm INPUT.npy",
}
"""What to begin with where studies cannot be run: the first that can."""


def main() -> None:
    """Run the command that the arguments name."""
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    if command == "predict":
        from gossamer.commands.predict import main as predict

        sys.exit(predict(sys.argv[2:]))
    if command and not command.startswith("-") and command not in NEEDED:
        print(f"gossamer: {_unknown(command)}", file=sys.stderr)
        sys.exit(_BAD_INPUT)
    if command in ("", "--help") and not _completing() and not all(map(is_usable, NEEDED)):
        print("\n".join(_help()))
        sys.exit(0 if command else _BAD_INPUT)
    try:
        with needing(extra_of_command(command), f"gossamer {command}"):
            from gossamer.commands.app import main as others
    except MissingPackageError as missing:
        if command == "--version":
            print(f"gossamer {own_version()}")
            sys.exit(0)
        print(f"gossamer: {missing}", file=sys.stderr)
        sys.exit(_BAD_INPUT)
    except KeyboardInterrupt:
        print("gossamer: interrupted before anything was done", file=sys.stderr)
        sys.exit(130)
    others()


def _completing() -> bool:
    """Whether a shell asks what may be written next: it names no command as an argument."""
    return "_GOSSAMER_COMPLETE" in os.environ


def _unknown(command: str) -> str:
    """Say that there is no such command, and which there are."""
    from gossamer.core.formats import likeliest, listed  # other starts need not wait for it

    near = likeliest(command, NEEDED)
    hint = f" (did you mean {near!r}?)" if near else ""
    return f"no command {command!r}{hint}: give one of {listed(list(NEEDED))}."


def _help() -> list[str]:
    """Return the lines of the help where some commands lack their packages."""
    usable = [command for command in NEEDED if is_usable(command)]
    lacking: dict[str, list[str]] = {}
    for command in NEEDED:
        if command not in usable:
            lacking.setdefault(extra_of_command(command), []).append(command)
    start = next(text for command, text in _STARTS.items() if command in usable)
    return [
        "Usage: gossamer COMMAND ...",
        "",
        "Sparse neural networks: how sparse can it be, what does it cost, what does it buy?",
        "",
        "Commands that work as gossamer is installed here:",
        *(_line(command) for command in usable),
        "",
        "Commands that need more packages:",
        *(
            line
            for extra, commands in lacking.items()
            for line in (*map(_line, commands), f"           {remedy(extra)}")
        ),
        "",
        "Options:",
        "  --version  Print the version and exit.",
        "  --help     Show this and exit.",
        "",
        f"Start with `{start}`.",
    ]


def _line(command: str) -> str:
    return f"  {command:<8} {_ABOUT[command]}"


if __name__ == "__main__":
    main()
