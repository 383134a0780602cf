"""The commands of `gossamer`, one file each, and what they share.

A command is a line of `COMMANDS` and the file of its name beside this one. The help, the completion
of shells, what to install, exit codes and sentences in the place of tracebacks follow from these.
The file holds a function of the command's name, whose docstring is its help and whose parameters
typer reads, and `EPILOG`, the exit codes and examples that close the help. Where it has
`SUBCOMMANDS`, functions by name whose docstrings end with an example, these stand behind it. Of a
command that needs
no package, and so no typer either, the function takes what stands behind the name and returns the
exit code, and `parser` returns the parser of argparse that it uses.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Command:
    """What is known of a command before its file is loaded."""

    needs: tuple[str, ...] = ()
    """The modules that it needs beside NumPy; a test holds them against the extra."""
    extra: str = "studies"
    """What to install to have them."""
    start: str = ""
    """What to begin with where studies cannot be run."""

    @property
    def is_usable(self) -> bool:
        """Whether all that it needs is installed; nothing is loaded to find out."""
        from importlib.util import find_spec

        try:
            return all(find_spec(module) is not None for module in self.needs)
        except ModuleNotFoundError:
            return False


_TERMINAL = ("pydantic", "typer", "rich")
_PAGE = ("altair", "vl_convert", "jinja2")

COMMANDS = {
    "studies": Command(_TERMINAL),
    "run": Command(("torch", "scipy", "sklearn", "safetensors", "pooch", *_TERMINAL, *_PAGE)),
    "report": Command(("scipy", "sklearn", "safetensors", *_TERMINAL, *_PAGE)),
    "store": Command(("torch", "scipy", "sklearn", "safetensors", *_TERMINAL)),
    "audit": Command(
        ("scipy", "sklearn", *_TERMINAL, *_PAGE),
        "audit",
        "gossamer audit predictions.npz --dry-run",
    ),
    "bench": Command(("torch", "scipy", "safetensors", *_TERMINAL), "prune", "gossamer bench mlp"),
    "shrink": Command(("torch", "scipy", "safetensors", *_TERMINAL), "prune"),
    "sensitivity": Command(("torch", "scipy", "safetensors", *_TERMINAL), "prune"),
    "predict": Command(start="gossamer predict NET.gsm INPUT.npy"),
}


def summary(name: str) -> str:
    """Return the first line of a command's help, without loading what the command needs.

    Examples
    --------
    >>> summary("predict")
    'Predict with a compressed network; needs NumPy alone.'
    """
    import ast  # for the help where packages are missing, which alone asks

    tree = ast.parse(Path(__file__).with_name(f"{name}.py").read_text("utf-8"))
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    docstring = next(ast.get_docstring(node) for node in functions if node.name == name)
    return (docstring or "").partition("\n")[0]
