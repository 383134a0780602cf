"""How long calls take, held against each other on a machine whose speed drifts.

What is compared is timed in turn, A B C A B C, so that a change of the clock rate or a busy
neighbour meets all alike, and the repeats are judged by their median (Mytkowicz and others 2009,
"Producing wrong data without doing anything obviously wrong"; Georges and others 2007,
"Statistically rigorous Java performance evaluation").
"""

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch

from gossamer.core.errors import InputError
from gossamer.records.speed import Latency

Block = Callable[[int], float]
"""Makes so many calls one after the other and returns the seconds that they took together."""
Clock = Callable[[], float]

LEAST_REPEATS = 3
_BLOCK_SECONDS = 0.01
"""Calls that are shorter are timed several at a time: alone, each would find the caches holding
what was timed before it, and would be of the order of the clock's own cost."""
_BLOCKS = 10
"""Repeats that there shall be time for at least, if a call is short enough."""
_WARM_UP = 0.2
"""Share of the time that warming up may take."""
_SETTLED = 3
"""Calls in a row that are no faster than those before, after which a callable is warm."""
_FASTER = 0.97


@dataclass(frozen=True)
class Timing:
    """Seconds of one call, one number a repeat, in the order of the repeats.

    A repeat of a short call is the mean over calls made one directly after the other.

    Examples
    --------
    >>> timing = Timing((3.0, 1.0, 2.0))
    >>> timing.median, timing.fastest, timing.quartiles
    (2.0, 1.0, (1.5, 2.5))
    """

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle repeat."""
        return float(np.median(self.seconds))

    @property
    def fastest(self) -> float:
        """The fastest repeat."""
        return min(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The repeats between which the middle half of all lies."""
        low, high = np.quantile(self.seconds, (0.25, 0.75))
        return float(low), float(high)


def latency_of(timing: Timing) -> Latency:
    """Return a timing as the record holds it."""
    low, high = timing.quartiles
    return Latency(
        median=timing.median,
        low=low,
        high=high,
        fastest=timing.fastest,
        repeats=len(timing.seconds),
    )


def time_alternately(
    callables: Mapping[str, Callable[[], object]],
    *,
    seconds: float,
    threads: int | None = None,
    clock: Clock = time.perf_counter,
) -> dict[str, Timing]:
    """Time callables in turn and return the seconds that one call of each takes.

    Each is first called until it gets no faster. Then each has as many repeats as fit into its
    share of the time, and at least three however long a call takes, as a single one tells nothing
    of how much they vary. The garbage collector is off meanwhile.

    Parameters
    ----------
    callables
        What is compared, by name; called without arguments.
    seconds
        Time for all of it together, warm-up included; more is taken where the least repeats need
        it.
    threads
        Threads of torch meanwhile; None leaves them as they are.
    clock
        Gives the time in seconds.

    Returns
    -------
    dict of str to Timing
        By the same names, in the same order.

    Raises
    ------
    InputError
        If the time is not positive or a number of threads is below 1.

    Examples
    --------
    >>> timings = time_alternately({"sum": lambda: sum(range(1000))}, seconds=0.02)
    >>> 0 < timings["sum"].fastest <= timings["sum"].median < 0.02
    True
    """
    if threads is not None and threads < 1:
        raise InputError(f"The number of threads is {threads}, but at least 1 was expected.")
    blocks = {name: block_of(call, clock) for name, call in callables.items()}
    with threads_of_torch(threads), _no_garbage_collection():
        return time_blocks(blocks, seconds=seconds, clock=clock)


def time_blocks(
    blocks: Mapping[str, Block], *, seconds: float, clock: Clock = time.perf_counter
) -> dict[str, Timing]:
    """Time in turn what times itself, perhaps in another process; see `time_alternately`.

    Parameters
    ----------
    blocks
        Functions that make so many calls and return the seconds that these took, by name.
    seconds
        Time for all of it together, warm-up included.
    clock
        Tells how much of that time is gone.

    Returns
    -------
    dict of str to Timing
        By the same names, in the same order.

    Raises
    ------
    InputError
        If the time is not positive.

    Examples
    --------
    >>> time_blocks({"a": lambda calls: 0.25 * calls}, seconds=0.01)["a"].median
    0.25
    """
    if not seconds > 0:
        raise InputError(
            f"The time for timing is {seconds} seconds, but a positive one was expected."
        )
    if not blocks:
        return {}
    share = seconds / len(blocks)
    warm = {name: _warm_up(block, share, clock) for name, block in blocks.items()}
    found: dict[str, list[float]] = {name: [] for name in blocks}
    left = dict.fromkeys(blocks, (1 - _WARM_UP) * share)
    waiting = list(blocks)
    while waiting:
        for name in waiting:
            started = clock()
            found[name].append(_repeat(blocks[name], _calls(warm[name], share)))
            left[name] -= clock() - started
        waiting = [name for name in waiting if left[name] > 0 or len(found[name]) < LEAST_REPEATS]
    return {name: Timing(tuple(values)) for name, values in found.items()}


def block_of(call: Callable[[], object], clock: Clock = time.perf_counter) -> Block:
    """Return a function that makes so many calls and returns the seconds that they took."""

    def timed(calls: int) -> float:
        started = clock()
        for _ in range(calls):
            call()
        return clock() - started

    return timed


def _warm_up(block: Block, share: float, clock: Clock) -> float:
    """Call until calls get no faster; return the seconds of the fastest one.

    The very first call does not count where there is time for a second: it also compiles,
    allocates or starts threads.
    """
    started = clock()
    first = block(1)
    if clock() - started > share:
        return first
    fastest, settled = block(1), 0
    while settled < _SETTLED and clock() - started < _WARM_UP * share:
        taken = block(1)
        settled = 0 if taken < _FASTER * fastest else settled + 1
        fastest = min(fastest, taken)
    return fastest


def _calls(taken: float, share: float) -> int:
    """Return how many calls, each taking so long, make one repeat."""
    length = min(_BLOCK_SECONDS, share / _BLOCKS)
    return max(1, ceil(length / taken)) if taken > 0 else 1


def _repeat(block: Block, calls: int) -> float:
    """Return the seconds of one call; where they are short, after one that fills the caches."""
    if calls > 1:
        block(1)
    return block(calls) / calls


@contextmanager
def threads_of_torch(threads: int | None) -> Iterator[None]:
    """Have torch use so many threads for a while; None leaves them as they are."""
    before = torch.get_num_threads()
    if threads is None or threads == before:  # setting them takes longer than a small network
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Collect garbage now and then not for a while, so that no repeat pays for another's."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
