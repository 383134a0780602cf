"""What a training, or the measuring of a trial, may take: time and memory."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gossamer.core.errors import InputError
from gossamer.core.formats import compact, duration

_PROCESSES = Path("/proc")
_PAGE_COUNTS = "statm"


@dataclass(frozen=True)
class Limits:
    """The most seconds, and the most bytes of the process that does it; None for any number."""

    seconds: float | None = None
    memory: int | None = None

    def __bool__(self) -> bool:
        """Whether there are any."""
        return self.seconds is not None or self.memory is not None

    def exceeded(self, seconds: float, held: Callable[[], int]) -> str | None:
        """Say which limit something is over that takes so long; None if it is none.

        Parameters
        ----------
        seconds
            Since it began.
        held
            Returns how many bytes its process holds.
        """
        if self.seconds is not None and seconds > self.seconds:
            return f"it took longer than {duration(self.seconds)} (--trial-timeout)"
        if self.memory is not None and (size := held()) > self.memory:
            return (
                f"its process held {compact(size, 'B')}, more than the {compact(self.memory, 'B')} "
                "of --trial-memory"
            )
        return None


NO_LIMITS = Limits()


def resident_bytes(process: int) -> int:
    """Return how much memory a process holds; 0 if it is gone."""
    import resource

    try:
        pages = (_PROCESSES / f"{process}" / _PAGE_COUNTS).read_text().split()
    except OSError:
        return 0
    return int(pages[1]) * resource.getpagesize()


def as_bytes(text: str) -> int:
    """Return a size that a user gave, such as ``"2 GB"`` or ``"500M"``, in bytes.

    Raises
    ------
    InputError
        If it is none, or no process here can be held to it.

    Examples
    --------
    >>> as_bytes("2GB"), as_bytes("500 MB"), as_bytes("1.5G")
    (2000000000, 500000000, 1500000000)
    """
    plain = text.strip().upper().removesuffix("B").rstrip()
    scale = {"K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}.get(plain[-1:], 1.0)
    try:
        size = float(plain.rstrip("KMGT")) * scale
    except ValueError:
        size = 0.0
    if not 1 <= size < 1e18:
        raise InputError(f"--trial-memory {text}: expected a size such as 2GB or 500MB")
    if not (_PROCESSES / "self" / _PAGE_COUNTS).is_file():
        raise InputError("--trial-memory: this system does not tell how much a process holds")
    return round(size)
