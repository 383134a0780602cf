"""Published archives, fetched once into the user's cache and checked by SHA-256.

The addresses are those of CIFAR-10's author and of the mirrors that PyTorch's and Zalando's own
loaders name. One of them has no HTTPS; what is trusted is the SHA-256, not the way.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gossamer.core.errors import InputError
from gossamer.core.installing import needing


@dataclass(frozen=True)
class Archive:
    """Where the files of a dataset are published, and their SHA-256 in hexadecimal."""

    url: str
    """The folder, with a slash at its end."""
    files: Mapping[str, str]
    """SHA-256 by file name."""


ARCHIVES = {
    "mnist": Archive(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        {
            "train-images-idx3-ubyte.gz": (
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
            ),
            "train-labels-idx1-ubyte.gz": (
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
            ),
            "t10k-images-idx3-ubyte.gz": (
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
            ),
            "t10k-labels-idx1-ubyte.gz": (
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
            ),
        },
    ),
    "fashion-mnist": Archive(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        {
            "train-images-idx3-ubyte.gz": (
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
            ),
            "train-labels-idx1-ubyte.gz": (
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"
            ),
            "t10k-images-idx3-ubyte.gz": (
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"
            ),
            "t10k-labels-idx1-ubyte.gz": (
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"
            ),
        },
    ),
    "cifar10": Archive(
        "https://www.cs.toronto.edu/~kriz/",
        {
            "cifar-10-binary.tar.gz": (
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
            ),
        },
    ),
}
"""What can be downloaded, by the name of the dataset."""


def download(name: str) -> Path:
    """Fetch a dataset of `ARCHIVES` into the user's cache, unless it is there.

    Parameters
    ----------
    name
        The name of the dataset.

    Returns
    -------
    Path
        The folder that holds its files.

    Raises
    ------
    InputError
        If a file cannot be fetched, or is not the published one.
    """
    with needing("studies", "downloading a dataset"):
        import pooch

    folder = Path(pooch.os_cache("gossamer")) / name
    fetch(name, ARCHIVES[name], folder)
    return folder


def fetch(name: str, archive: Archive, folder: Path) -> None:
    """Fetch the files of an archive that a folder lacks or holds with other content.

    Parameters
    ----------
    name
        The name of the dataset, for messages.
    archive
        What to fetch.
    folder
        Where to; made if missing. A file with the wrong SHA-256 never stays there.

    Raises
    ------
    InputError
        If a file cannot be fetched, or is not the published one.
    """
    with needing("studies", "downloading a dataset"):
        import pooch

    remedy = (
        "set GOSSAMER_DATA or --data to a folder that holds "
        f"{name}/ with {', '.join(archive.files)}"
    )
    for file, sha256 in archive.files.items():
        url = archive.url + file
        try:
            pooch.retrieve(url, known_hash=f"sha256:{sha256}", fname=file, path=folder)
        except ValueError as error:
            raise InputError(
                f"{url}: the downloaded file is not the published one, expected the SHA-256 "
                f"{sha256}; try again, or {remedy}."
            ) from error
        except OSError as error:  # Whatever the network or the disk refused.
            raise InputError(
                f"{url}: cannot be downloaded to {folder} ({type(error).__name__}); {remedy}."
            ) from error
