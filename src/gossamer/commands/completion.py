"""What a shell completes: options, and the names of studies and networks; else it offers files.

A shell asks at every press of a key, so names are found without loading what they name.
"""

import argparse
import sys
from collections.abc import Callable
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any

import typer

NETWORKS = (
    "cifar-cnn", "cifar-dropout-cnn", "cifar-wide-cnn", "fashion-cnn", "mlp", "mnist-cnn",
    "wide-head",
)  # fmt: skip
"""The built-in networks that `gossamer bench` takes."""


def networks_beginning(incomplete: str) -> list[str]:
    """Return the built-in networks whose names begin so.

    Examples
    --------
    >>> networks_beginning("m")
    ['mlp', 'mnist-cnn']
    """
    return [name for name in NETWORKS if name.startswith(incomplete)]


def studies_beginning(incomplete: str) -> list[str]:
    """Return the built-in studies whose names begin so.

    Examples
    --------
    >>> studies_beginning("dem")
    ['demo']
    """
    folder = Path(__file__).parents[1] / "studies" / "builtin"
    return sorted(path.stem for path in folder.glob("*.toml") if path.stem.startswith(incomplete))


def with_options_of(
    parser: argparse.ArgumentParser, run: Callable[[list[str]], int]
) -> Callable[..., None]:
    """Return a command as typer wants it, with the options of a parser, to tell a shell of them.

    Parameters
    ----------
    parser
        Reads the options where the command really runs.
    run
        Takes what stands behind the name of the command, and returns the exit code.
    """

    def command(**_: object) -> None:
        raise typer.Exit(run(sys.argv[2:]))

    parameters = [_parameter(action) for action in parser._actions if action.dest != "help"]
    command.__doc__ = run.__doc__ and run.__doc__.partition("\n")[0]
    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    return command


def _parameter(action: argparse.Action) -> Parameter:
    """Return an option of argparse as the parameter that typer takes for it."""
    if not action.option_strings:
        found: Any = Annotated[str, typer.Argument(metavar=str(action.metavar), help=action.help)]
        return Parameter(action.dest, Parameter.KEYWORD_ONLY, annotation=found)
    name = action.option_strings[-1].removeprefix("--").replace("-", "_")  # several share a dest
    option = typer.Option(*action.option_strings, help=action.help)
    kind, default = (bool, False) if action.nargs == 0 else (str | None, None)
    return Parameter(
        name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
    )
