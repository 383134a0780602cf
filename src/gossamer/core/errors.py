"""What gossamer raises when something outside of it is wrong.

Every message is one sentence that names the file or field and what was expected, fit to be
shown to a user as it stands; the command prints it without a traceback and exits with 2.
"""


class GossamerError(Exception):
    """Something a user can act on went wrong."""


class InputError(GossamerError, ValueError):
    """A file, a value or a model from outside is not what was expected.

    Parameters
    ----------
    message
        What a user is told.
    fields
        The keys of the value that it is about, within what was looked at; empty for all of it.
    """

    def __init__(self, message: str, fields: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.fields = fields


class TrainingError(GossamerError, RuntimeError):
    """Training cannot go on, for instance because the loss is no longer a number."""


class StoreError(GossamerError, RuntimeError):
    """The store of states and records cannot be read or written."""


class DamagedFileError(StoreError):
    """A file of the store is missing, or not what was written: it is to be made again.

    Parameters
    ----------
    what
        What the file holds, such as "state".
    path
        The file.
    reason
        What is wrong with it.
    """

    def __init__(self, what: str, path: object, reason: object) -> None:
        super().__init__(what, f"{path}", f"{reason}")  # all, so that a worker process can send it

    def __str__(self) -> str:
        """Return what a user is told."""
        what, path, reason = self.args
        return (
            f"the {what} {path} cannot be read ({reason}): run the same command again, which sets "
            "it aside and makes it again"
        )


class UnwritableError(StoreError):
    """A folder takes no more: its disk or quota is full, or it is read-only or gone.

    Whatever is tried next in it would fail alike, so that nobody should go on.

    Parameters
    ----------
    what
        What is the matter, such as "the disk of runs/demo is full".
    remedy
        What to do about it, such as "free some space".
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what, remedy)  # both, so that a worker process can send it
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        """Return the two as one sentence."""
        return f"{self.what}: {self.remedy}"


class MissingPackageError(GossamerError, ModuleNotFoundError):
    """A package is not installed that only a part of gossamer needs; `name` is its module."""
