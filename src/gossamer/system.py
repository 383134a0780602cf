"""What the operating system says: how many cores there are, and why something failed."""

import os


def available_cores() -> int:
    """Return how many cores this process may use.

    Examples
    --------
    >>> available_cores() >= 1
    True
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def failure_reason(error: OSError) -> str:
    """Return why something failed, fit for the parentheses of a sentence.

    Examples
    --------
    >>> failure_reason(FileNotFoundError(2, "No such file or directory"))
    'no such file or directory'
    """
    return (error.strerror or str(error)).lower()
