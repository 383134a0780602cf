"""The `gossamer` command, and `python -m gossamer`.

`gossamer predict` needs NumPy alone, and so does not wait for what the other commands import; help
and version are there, too, where nothing else is installed.
"""

import os
import sys
from importlib import import_module

from gossamer.commands import COMMANDS, summary
from gossamer.commands.ending import BAD_INPUT, exit_code
from gossamer.core.errors import InputError, MissingPackageError
from gossamer.core.installing import needing, own_version, remedy


def main() -> None:
    """Run the command that the arguments name, and exit."""
    sys.exit(exit_code(lambda: _run(sys.argv[1:])))


def _run(arguments: list[str]) -> object:
    """Do what the arguments say, and return the exit code or raise SystemExit."""
    name = arguments[0] if arguments else ""
    command = COMMANDS.get(name)
    if name and command is None and not name.startswith("-"):
        raise InputError(_unknown(name))
    if command is not None and not command.needs:
        module = import_module(f"gossamer.commands.{name}")
        return getattr(module, name)(arguments[1:])
    completing = "_GOSSAMER_COMPLETE" in os.environ  # a shell's question names no command
    if completing:
        os.environ["COLUMNS"] = "10000"  # an answer has a line for each option, however long
    asks_for_help = name in ("", "--help") and not completing
    if asks_for_help and not all(known.is_usable for known in COMMANDS.values()):
        print("\n".join(_help()))
        return 0 if name else BAD_INPUT
    try:
        with needing(command.extra if command else "studies", f"gossamer {name}"):
            from gossamer.commands.app import app_of_all

            return app_of_all()(prog_name="gossamer")
    except MissingPackageError:
        if name != "--version":
            raise
        print(f"gossamer {own_version()}")
        return 0


def _unknown(name: str) -> str:
    """Say that there is no such command, and which there are."""
    from gossamer.core.formats import likeliest, listed  # other starts need not wait for it

    near = likeliest(name, COMMANDS)
    hint = f" (did you mean {near!r}?)" if near else ""
    return f"no command {name!r}{hint}: give one of {listed(list(COMMANDS))}."


def _help() -> list[str]:
    """Return the lines of the help where some commands lack their packages."""
    usable = {name: command for name, command in COMMANDS.items() if command.is_usable}
    lines = {name: f"  {name:<8} {summary(name)}" for name in COMMANDS}
    lacking: dict[str, list[str]] = {}
    for name in (name for name in COMMANDS if name not in usable):
        lacking.setdefault(COMMANDS[name].extra, []).append(lines[name])
    return [
        "Usage: gossamer COMMAND ...",
        "",
        "Sparse neural networks: how sparse can it be, what does it cost, what does it buy?",
        "",
        "Commands that work as gossamer is installed here:",
        *(lines[name] for name in usable),
        "",
        "Commands that need more packages:",
        *(
            line
            for extra, of_extra in lacking.items()
            for line in (*of_extra, f"           {remedy(extra)}")
        ),
        "",
        "Options:",
        "  --version  Print the version and exit.",
        "  --help     Show this and exit.",
        "",
        f"Start with `{next(command.start for command in usable.values() if command.start)}`.",
    ]


if __name__ == "__main__":
    main()
