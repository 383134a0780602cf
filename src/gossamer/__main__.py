"""The `gossamer` command, and `python -m gossamer`.

`gossamer predict` needs NumPy alone, and so does not wait for what the other commands import; help
and version are there, too, where nothing else is installed.
"""

import sys

from gossamer.errors import MissingPackageError
from gossamer.installing import extra_of_command, needing, own_version, remedy

_BAD_INPUT = 2
_HELP = """\
Usage: gossamer COMMAND ...

Sparse neural networks: how sparse can it be, what does it cost, what does it buy?

Commands that work as gossamer is installed here:
  predict  Predict with a compressed network; needs NumPy alone.

Commands that need more packages:
  bench    Compare the speed of a network, dense and sparse, on this machine.
           {prune}
  audit    Measure what models give away about the examples they were trained on.
           {audit}
  studies, run, report
           List the built-in studies, run one, write its report.
           {studies}

Options:
  --version  Print the version and exit.
  --help     Show this and exit.
"""


def main() -> None:
    """Run the command that the arguments name."""
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    if command == "predict":
        from gossamer.predict_command import main as predict

        sys.exit(predict(sys.argv[2:]))
    try:
        with needing(extra_of_command(command), f"gossamer {command}"):
            from gossamer.cli import main as others
    except MissingPackageError as missing:
        if command in ("", "--help", "--version"):
            sys.exit(_without_typer(command))
        print(f"gossamer: {missing}", file=sys.stderr)
        sys.exit(_BAD_INPUT)
    except KeyboardInterrupt:
        print("gossamer: interrupted before anything was done", file=sys.stderr)
        sys.exit(130)
    others()


def _without_typer(option: str) -> int:
    """Answer what needs no command, and return the exit code, as the full command does."""
    if option == "--version":
        print(f"gossamer {own_version()}")
        return 0
    print(_HELP.format(**{extra: remedy(extra) for extra in ("audit", "prune", "studies")}), end="")
    return 0 if option else _BAD_INPUT


if __name__ == "__main__":
    main()
