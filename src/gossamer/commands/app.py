"""The command line as typer knows it: every command of the registry, with its help."""

from collections.abc import Callable, Mapping
from functools import wraps
from importlib import import_module
from typing import Annotated

import typer

from gossamer.commands import COMMANDS
from gossamer.commands.completion import with_options_of
from gossamer.commands.ending import INTERRUPTED, say
from gossamer.core.installing import own_version


def app_of_all() -> typer.Typer:
    """Return the application of all commands that the registry names."""
    app = typer.Typer(
        name="gossamer",
        no_args_is_help=True,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
        help="Sparse neural networks: how sparse can it be, what does it cost, what does it buy?",
        epilog="Start with `gossamer studies`, then `gossamer run demo`.",
    )
    app.callback(invoke_without_command=True)(_root)
    for name, command in COMMANDS.items():
        module = import_module(f"gossamer.commands.{name}")
        function = getattr(module, name)
        if hasattr(module, "SUBCOMMANDS"):
            app.add_typer(_group(function, module.SUBCOMMANDS, module.EPILOG), name=name)
        elif command.needs:
            app.command(name, epilog=module.EPILOG)(_saying_that_it_was_interrupted(function))
        else:
            app.command(name)(with_options_of(module.parser(), function))
    return app


def _group(
    function: Callable[..., None], subcommands: Mapping[str, Callable[..., None]], epilog: str
) -> typer.Typer:
    """Return a command that has others behind it."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", epilog=epilog)
    group.callback(help=function.__doc__)(function)
    for name, subcommand in subcommands.items():
        text, _, example = (subcommand.__doc__ or "").partition("Example:")
        said = _saying_that_it_was_interrupted(subcommand)
        group.command(name, help=text.strip(), epilog=f"Example: {example.strip()}")(said)
    return group


def _saying_that_it_was_interrupted(function: Callable[..., None]) -> Callable[..., None]:
    """Return a command that ends with a word at Ctrl-C, where typer ends without one."""

    @wraps(function)
    def command(**options: object) -> None:
        try:
            function(**options)
        except KeyboardInterrupt:
            say("gossamer: interrupted")
            raise typer.Exit(INTERRUPTED) from None

    return command


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)
    ] = False,
) -> None:
    if version:
        typer.echo(f"gossamer {own_version()}")
        raise typer.Exit
