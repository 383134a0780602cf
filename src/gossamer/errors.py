"""What gossamer raises when something outside of it is wrong.

Every message is one sentence that names the file or field and what was expected, fit to be
shown to a user as it stands; the command prints it without a traceback and exits with 2.
"""


class GossamerError(Exception):
    """Something a user can act on went wrong."""


class InputError(GossamerError, ValueError):
    """A file, a value or a model from outside is not what was expected."""


class TrainingError(GossamerError, RuntimeError):
    """Training cannot go on, for instance because the loss is no longer a number."""


class StoreError(GossamerError, RuntimeError):
    """The store of states and records cannot be read or written."""
