"""The options of commands that train or probe a network of one's own."""

from typing import Annotated

import typer

from gossamer.commands.completion import networks_beginning

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="package.module:callable, file.py:callable, or a built-in network.",
        autocompletion=networks_beginning,
    ),
]
Excluded = Annotated[
    list[str] | None, typer.Option(help="Pattern of layers to leave alone; may be repeated.")
]
Arguments = Annotated[
    list[str] | None,
    typer.Option("--network-arg", metavar="NAME=VALUE", help="Of the callable; may be repeated."),
]
Higher = Annotated[
    bool | None,
    typer.Option("--higher-is-better/--lower-is-better", help="Of a metric of your own."),
]
