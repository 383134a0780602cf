"""What the operating system says: of cores, of memory, and why something failed."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where Linux says how much memory a container may use, in either version."""
_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def available_cores() -> int:
    """Return how many cores this process may use: by its affinity and its control group's quota.

    Examples
    --------
    >>> available_cores() >= 1
    True
    """
    quotas = _quotas(_CGROUPS, _OWN_GROUPS)
    return max(1, min([permitted_cores(), *(int(quota) for quota in quotas)]))


def permitted_cores() -> int:
    """Return on how many cores this process may run, whatever share of them it may use.

    Examples
    --------
    >>> permitted_cores() >= available_cores()
    True
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def environment_threads(environment: Mapping[str, str] = os.environ) -> int | None:
    """Return how many threads OMP_NUM_THREADS or MKL_NUM_THREADS ask for; the smaller of the two.

    Examples
    --------
    >>> environment_threads({"OMP_NUM_THREADS": "4,2"}), environment_threads({})
    (4, None)
    """
    counts = (_threads(environment.get(name, "")) for name in _SETTINGS)
    return min((threads for threads in counts if threads is not None), default=None)


def unreadable_threads(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the settings of threads that are no number of them, which OpenMP passes over, too.

    Examples
    --------
    >>> unreadable_threads({"OMP_NUM_THREADS": "many", "MKL_NUM_THREADS": "2"})
    ['OMP_NUM_THREADS=many']
    """
    given = {name: environment.get(name, "") for name in _SETTINGS}
    return [f"{name}={text}" for name, text in given.items() if text and _threads(text) is None]


def _threads(setting: str) -> int | None:
    """Return how many threads a setting such as ``4`` or ``4,2`` asks for; None if it is none."""
    with suppress(ValueError):
        threads = int(setting.partition(",")[0])
        return threads if threads > 0 else None
    return None


def _quotas(root: Path, own: Path) -> Iterator[float]:
    """Yield the cores' worth of time that the control groups of this process allow, above it, too.

    Both layouts of the kernel are read: one tree (``cpu.max``), and one for each controller.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        tree = root if not controllers else root / controllers
        if controllers and "cpu" not in controllers.split(","):
            continue
        place = tree / group.lstrip("/")
        for folder in (place, *place.parents):
            if folder != tree and tree not in folder.parents:
                break
            yield from _quota(folder)


def _quota(folder: Path) -> Iterator[float]:
    with suppress(OSError, ValueError):  # "max" is no number, and -1 no limit
        quota, period = (folder / "cpu.max").read_text().split()
        yield int(quota) / int(period)
    with suppress(OSError, ValueError):
        quota, period = (
            (folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")
        )
        if int(quota) > 0:
            yield int(quota) / int(period)


def available_memory() -> int | None:
    """Return how many bytes of memory this process may take, or None where nothing says so."""
    found = [_free_memory()]
    for limit in _LIMITS:
        try:
            found.append(int(Path(limit).read_text()))
        except (OSError, ValueError):  # Not there, or "max".
            continue
    known = [amount for amount in found if amount is not None]
    return min(known, default=None)


def _free_memory() -> int | None:
    """Memory that is free or can be freed, else the machine's whole memory, in bytes."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if "MemAvailable" in line)
    except (OSError, StopIteration):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def failure_reason(error: OSError) -> str:
    """Return why something failed, fit for the parentheses of a sentence.

    Examples
    --------
    >>> failure_reason(FileNotFoundError(2, "No such file or directory"))
    'no such file or directory'
    """
    return (error.strerror or str(error)).lower()
