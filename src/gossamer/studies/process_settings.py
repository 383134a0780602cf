"""Settings of a whole process, for processes that belong to the command.

A library import changes nothing in the process; these are called by the command and by the
worker processes that it starts.
"""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGE = 1 << 30


def tune_process(threads: int) -> None:
    """Let torch use so many threads, and have glibc keep large blocks instead of unmapping them.

    By default glibc gives every large tensor fresh pages from the kernel and takes them back when
    it dies; training allocates the same sizes in every step, so that is wasted work.
    """
    import torch

    torch.set_num_threads(threads)
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32 on a GPU, too
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return  # not glibc
    mallopt(_M_MMAP_THRESHOLD, _LARGE)
    mallopt(_M_TRIM_THRESHOLD, _LARGE)


@contextmanager
def collecting_rarely() -> Iterator[None]:
    """Look for cyclic garbage rarely while many values are made that all stay.

    By default Python looks through all that there is again and again as it grows, which takes half
    of the time that planning a hundred thousand trials takes.
    """
    before = gc.get_threshold()
    gc.set_threshold(200_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def processor_has_bf16() -> bool | None:
    """Tell whether the processor multiplies bfloat16 itself; None where that cannot be seen.

    One that does not is far slower in bf16 than in float32.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    flags = {
        flag for line in lines if line.startswith(("flags", "Features")) for flag in line.split()
    }
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})
