"""Files of states and statistics at an address that workers of a cluster share without a disk.

The address is one of `fsspec`: ``s3://bucket/folder``, ``gs://...``, ``file:///folder``. Who may
read and write there is for the environment to say (``AWS_ACCESS_KEY_ID`` and the like): an address
stands in the command line, which reports hold.
"""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gossamer.core.errors import InputError, MissingPackageError, StoreError
from gossamer.core.files import replacing
from gossamer.core.installing import needing

PARTS = ("states", "statistics")
_NOTE = "states-address.txt"
_WHOLE = ".safetensors"


def checked_address(url: str) -> str:
    """Return an address that can stand in a report.

    Raises
    ------
    InputError
        If it is none of `fsspec`, or names who may write there.

    Examples
    --------
    >>> checked_address("s3://bucket/study/")
    's3://bucket/study'
    """
    parts = urlsplit(url)
    if not parts.scheme or "://" not in url:
        raise InputError(
            f"--states {url}: expected an address such as s3://bucket/folder or file:///folder"
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise InputError(
            f"--states {parts.scheme}://...: leave names, passwords and parameters out, as reports "
            "hold the command line; the environment says who may write there"
        )
    return url.rstrip("/")


def noted_address(folder: Path) -> str | None:
    """Return where the states of a study's folder are noted to be; None for the folder itself."""
    try:
        return (folder / _NOTE).read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def note_address(folder: Path, url: str) -> None:
    """Note where the states of a study's folder are."""
    with replacing(folder / _NOTE) as temporary:
        temporary.write_text(f"{url}\n", encoding="utf-8")


class ObjectStore:
    """The states and statistics of studies at an address, by names such as ``states/KEY...``."""

    def __init__(self, url: str) -> None:
        """Reach the address.

        Raises
        ------
        InputError
            If nothing can be reached there.
        """
        self.url = checked_address(url)
        with needing("cluster", "--states"):
            import fsspec
        try:
            self._files, root = fsspec.core.url_to_fs(self.url)
            self._root = str(root).rstrip("/")
            if self._url_is_of_files:
                for part in PARTS:
                    self._files.makedirs(f"{self._root}/{part}", exist_ok=True)
        except ImportError as error:
            raise MissingPackageError(f"--states {self.url}: {error}") from error
        except Exception as error:  # every kind of storage raises its own
            raise InputError(f"--states {self.url}: it cannot be reached ({error})") from error

    @property
    def _url_is_of_files(self) -> bool:
        """Whether there are folders, which must be there before what is in them."""
        return self.url.startswith(("file:", "local:", "memory:"))

    def keys(self, part: str) -> set[str]:
        """Return the keys of all whole files of a part.

        Raises
        ------
        StoreError
            If the address cannot be read.
        """
        names = self._doing("read", lambda: self._listed(part))
        return {name.removesuffix(_WHOLE) for name in names if name.endswith(_WHOLE)}

    def sizes(self) -> dict[str, int]:
        """Return the bytes of every file, by its name such as ``states/KEY.safetensors``.

        Raises
        ------
        StoreError
            If the address cannot be read.
        """
        found: dict[str, int] = {}
        for part in PARTS:
            for name in self._doing("read", lambda part=part: self._listed(part)):
                path = f"{self._root}/{part}/{name}"
                size = self._doing("read", lambda path=path: self._files.size(path))
                found[f"{part}/{name}"] = int(size)
        return found

    def _listed(self, part: str) -> list[str]:
        self._files.invalidate_cache()
        try:
            found: list[str] = self._files.ls(f"{self._root}/{part}", detail=False)
        except FileNotFoundError:
            return []  # nothing was put there yet
        return [name.rsplit("/", 1)[-1] for name in found]

    def fetch(self, name: str, path: Path) -> bool:
        """Copy a file to a path; tell whether there is one.

        Raises
        ------
        StoreError
            If it cannot be read.
        """

        def copy() -> bool:
            try:
                content = self._files.cat_file(f"{self._root}/{name}")
            except FileNotFoundError:
                return False
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                temporary.write_bytes(content)
            return True

        return bool(self._doing("read", copy))

    def put(self, name: str, path: Path) -> None:
        """Copy a file there, where it appears whole or not at all.

        Raises
        ------
        StoreError
            If it cannot be written.
        """

        def copy() -> None:
            with self._files.transaction, self._files.open(f"{self._root}/{name}", "wb") as file:
                file.write(path.read_bytes())

        self._doing("written", copy)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

        def remove() -> None:
            if self._files.exists(f"{self._root}/{name}"):
                self._files.rm_file(f"{self._root}/{name}")

        self._doing("written", remove)

    def _doing(self, what: str, do: Any) -> Any:
        try:
            return do()
        except Exception as error:  # every kind of storage raises its own
            raise StoreError(f"--states {self.url} cannot be {what}: {error}") from error
