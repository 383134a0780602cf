"""Files of what attacks need to know of one network's answers; no torch here."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from gossamer.core.errors import InputError, StoreError
from gossamer.core.files import replacing, unwritable
from gossamer.leakage import Statistics


def write_statistics(path: Path, found: Statistics) -> None:
    """Keep the statistics of one network, ``[1, examples]``: 16 bytes an example.

    16 seeds, 10 sparsities and a pool of 60,000 take 154 MB.

    Raises
    ------
    UnwritableError
        If the folder takes no more, for instance because its disk is full.
    StoreError
        If the file cannot be written for another reason.
    """
    try:
        path.parent.mkdir(exist_ok=True)
        with replacing(path) as temporary:
            save_file({name: value[0] for name, value in vars(found).items()}, temporary)
    except (OSError, SafetensorError) as error:
        raise unwritable(path.parent, error) or StoreError(
            f"the statistics {path} cannot be written: {error}"
        ) from error


def read_statistics(path: Path) -> Statistics:
    """Read the statistics of one network, ``[1, examples]``.

    Raises
    ------
    StoreError
        If the file is missing or damaged.
    """
    try:
        return Statistics(**{name: value[None] for name, value in load_file(path).items()})
    except (OSError, SafetensorError, InputError, TypeError, ValueError) as error:
        raise StoreError(
            f"the statistics {path} cannot be read ({error}): delete the file to compute it again"
        ) from error
