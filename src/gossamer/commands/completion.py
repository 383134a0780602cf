"""The names of studies and networks that a shell completes; where none fits, it offers files.

A shell asks at every press of a key, so they are found without loading what they name.
"""

from pathlib import Path

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
