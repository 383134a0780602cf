import gc
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.core.errors import InputError
from gossamer.measures.functional.latency import (
    LEAST_REPEATS,
    Timing,
    latency_of,
    threads_of_torch,
    time_alternately,
    time_blocks,
)
from gossamer.measures.functional.machine import machine


@dataclass
class World:
    """A clock that only the callables move, and a list of who was called when."""

    now: float = 0.0
    calls: list[str] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def callable(self, name: str, durations: Iterator[float]) -> Callable[[], None]:
        def call() -> None:
            self.calls.append(name)
            self.now += next(durations)

        return call

    def steady(self, name: str, seconds: float) -> Callable[[], None]:
        return self.callable(name, itertools.repeat(seconds))


def timed(world: World, seconds: float, **durations: float) -> dict[str, Timing]:
    callables = {name: world.steady(name, taken) for name, taken in durations.items()}
    return time_alternately(callables, seconds=seconds, clock=world.clock)


def test_steady_calls_have_their_own_time_and_no_spread() -> None:
    found = timed(World(), 10.0, fast=1e-5, slow=0.1)
    for name, expected in {"fast": 1e-5, "slow": 0.1}.items():
        timing = found[name]
        assert timing.median == pytest.approx(expected)
        assert timing.fastest == pytest.approx(expected)
        assert timing.quartiles == pytest.approx((expected, expected))
    assert list(found) == ["fast", "slow"]


def test_calls_alternate_after_the_warm_up() -> None:
    world = World()
    timed(world, 9.0, a=0.1, b=0.1, c=0.1)
    order = [name for name, _ in itertools.groupby(world.calls)]
    assert order[:3] == ["a", "b", "c"]  # the warm-up
    assert order[3:] == ["a", "b", "c"] * (len(order[3:]) // 3)
    assert len(order) > 3 + 3 * 10


def test_a_drift_of_the_machine_meets_all_alike() -> None:
    """The machine slows down linearly to half its speed; the true ratio is 2 throughout."""
    world = World()

    def drifting(seconds: float) -> Callable[[], None]:
        def call() -> None:
            world.now += seconds * (1 + world.now / 10)

        return call

    found = time_alternately(
        {"a": drifting(0.01), "b": drifting(0.02)}, seconds=10, clock=world.clock
    )
    assert found["a"].seconds[-1] > 1.5 * found["a"].seconds[0]
    assert found["b"].median / found["a"].median == pytest.approx(2, rel=0.25)
    together = zip(found["a"].seconds, found["b"].seconds, strict=False)
    assert all(b / a == pytest.approx(2, rel=0.01) for a, b in together)


def test_warm_up_ends_when_calls_get_no_faster() -> None:
    world = World()
    durations = itertools.chain([0.5, 0.4, 0.3, 0.2, 0.1], itertools.repeat(0.05))
    timing = time_alternately(
        {"a": world.callable("a", durations)}, seconds=100, clock=world.clock
    )["a"]
    assert timing.seconds == pytest.approx([0.05] * len(timing.seconds))


def test_the_first_call_never_counts() -> None:
    world = World()
    durations = itertools.chain([50.0], itertools.repeat(0.01))
    timing = time_alternately({"a": world.callable("a", durations)}, seconds=1, clock=world.clock)
    assert timing["a"].median == pytest.approx(0.01)


def test_a_call_longer_than_its_share_is_repeated_often_enough_to_tell_its_spread() -> None:
    world = World()
    found = timed(world, 2.0, short=0.01, long=30.0)
    assert found["long"].seconds == (30.0,) * LEAST_REPEATS
    assert world.calls.count("long") == 1 + LEAST_REPEATS
    assert len(found["short"].seconds) > LEAST_REPEATS


@given(
    durations=st.lists(st.floats(5e-3, 2.0), min_size=1, max_size=4),
    seconds=st.floats(0.01, 5.0),
)
@settings(max_examples=60)
def test_the_time_is_kept_but_for_the_least_repeats(durations: list[float], seconds: float) -> None:
    world = World()
    found = timed(world, seconds, **{str(i): taken for i, taken in enumerate(durations)})
    share = seconds / len(durations)
    longest = [max(share, (LEAST_REPEATS + 3) * taken) + 3 * taken for taken in durations]
    assert world.now <= sum(longest) * 1.5
    for timing, taken in zip(found.values(), durations, strict=True):
        assert timing.median == pytest.approx(taken)
        assert len(timing.seconds) >= LEAST_REPEATS


def test_blocks_tell_their_own_time() -> None:
    """What another process measured counts, not how long it took to hear of it."""
    world = World()

    def elsewhere(calls: int) -> float:
        world.now += 1.0 + 0.25 * calls
        return 0.25 * calls

    assert time_blocks({"a": elsewhere}, seconds=60, clock=world.clock)["a"].median == 0.25


def test_nothing_gives_nothing() -> None:
    assert time_alternately({}, seconds=1) == {}


def test_threads_and_the_garbage_collector_are_as_before_even_after_an_error() -> None:
    seen: list[tuple[int, bool]] = []

    def look() -> None:
        seen.append((torch.get_num_threads(), gc.isenabled()))
        raise RuntimeError("stop")

    before = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="stop"):
        time_alternately({"look": look}, seconds=1, threads=before + 1)
    assert seen == [(before + 1, False)]
    assert (torch.get_num_threads(), gc.isenabled()) == (before, True)


def test_threads_that_are_right_already_are_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Setting them takes as long as a small network."""
    monkeypatch.setattr(torch, "set_num_threads", lambda _: pytest.fail("was called"))
    with threads_of_torch(torch.get_num_threads()), threads_of_torch(None):
        pass


def test_a_disabled_garbage_collector_stays_disabled() -> None:
    gc.disable()
    try:
        time_alternately({"nothing": lambda: None}, seconds=0.001)
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_no_time_is_refused(seconds: float) -> None:
    with pytest.raises(InputError, match="positive"):
        time_alternately({"a": lambda: None}, seconds=seconds)


def test_no_threads_are_refused() -> None:
    with pytest.raises(InputError, match="threads is 0"):
        time_alternately({"a": lambda: None}, seconds=1, threads=0)


def test_a_timing_becomes_a_record() -> None:
    found = latency_of(Timing((4.0, 1.0, 2.0, 3.0, 5.0)))
    assert found.model_dump() == {
        "median": 3.0, "low": 2.0, "high": 4.0, "fastest": 1.0, "repeats": 5,
    }  # fmt: skip


def test_the_machine_has_cores_and_an_instruction_set() -> None:
    found = machine(1)
    assert found.cores >= 1
    assert found.instruction_set in {"avx512", "avx2", "baseline", "numpy"}
    assert all(size > 0 for size in found.caches.values())
