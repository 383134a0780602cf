"""Settling how a study is done: in how many processes and threads, and how long that takes.

The choice is the user's, or known from before; else a few steps of the study's first trainings
decide, and more of anything is chosen only where it is clearly faster.
"""

import time
from dataclasses import dataclass, replace

from gossamer.core.system import available_cores
from gossamer.recipes import KeyedTrial
from gossamer.studies.parallelism import Parallelism
from gossamer.studies.plan import Plan, Training
from gossamer.studies.profiling import (
    Cost,
    TrainingProfiler,
    Turns,
    cores_had,
    kinds,
    training_step,
    what_it_is_like,
)
from gossamer.studies.run import Estimate, Prepared

_CLEARLY = 1.15
"""By this factor a choice of more threads or processes must be faster."""
_WORTH_CHOOSING = 15.0
"""Seconds of a study below which no choice gains anything."""
_START_SECONDS = 4.0
"""Of a core, for another process to start, which imports PyTorch and reads the data."""
_REPORT_SECONDS = 4.0
"""Of a core, for the report, whose figures need a few packages first."""
_TASK_SECONDS = 0.005
"""Of a training or a trial beside its steps and its measuring: files, the database."""
_BYTES_OF_A_TRIAL = 12_000
"""In the database: its record, and its part of those of trainings."""
_BYTES_OF_A_REPORT = 4_000_000
_BYTES_OF_AN_EXAMPLE = 16
"""In the statistics that attacks need."""
_MOST_THREADS = 16
"""More are not tried: so many cores are better given to processes."""


def autotuned(prepared: Prepared, begun: float) -> Prepared:
    """Return a study with processes and threads chosen, and an estimate of what it takes.

    Parameters
    ----------
    prepared
        The study.
    begun
        When the command began, by `time.monotonic`: its start is part of what it takes.

    Raises
    ------
    InputError
        If the network cannot be trained or measured.
    """
    plan, known = prepared.plan, prepared.known
    if not plan.tasks:
        return prepared
    base = known.threads or 1
    tried = _profiles(prepared, base)
    work = _work(prepared, tried)
    choice = _Choice(known.jobs or 1, base)
    if prepared.request.device == "cpu" and prepared.request.scheduler is None:
        if known.jobs is not None and known.threads is not None:
            choice = _with_speed(choice, tried)
        elif work.seconds >= _WORTH_CHOOSING:
            choice = _chosen(prepared, tried, work.seconds)
    first = _first(tried)
    seconds = max(work.longest, work.seconds / choice.speed) + choice.start
    seconds += time.monotonic() - begun + _REPORT_SECONDS / first.share
    estimate = Estimate(
        seconds=seconds if work.is_known else None,
        kept_bytes=_kept_bytes(prepared, tried),
        gain_of_one_thread=first.gain_of_one_thread,
    )
    return replace(prepared, jobs=choice.jobs, threads=choice.threads, estimate=estimate)


@dataclass(frozen=True)
class _Choice:
    """Processes and threads, how many times faster they are than one, and what they cost first."""

    jobs: int
    threads: int
    speed: float = 1.0
    start: float = 0.0
    """Seconds for the processes to start."""

    def seconds(self, work: float) -> float:
        """Return how long so much work takes."""
        return work / self.speed + self.start


@dataclass(frozen=True)
class _Profile:
    """What a moment of one kind of training showed."""

    profiler: TrainingProfiler
    turns: Turns | None
    """None where there is nothing to train, or its loss soon was no number."""
    cost: Cost
    alone: Turns | None = None
    """On one thread."""

    @property
    def share(self) -> float:
        """The share of a core that one process has."""
        return max(0.05, self.alone.share) if self.alone else cores_had(1)

    @property
    def gain_of_one_thread(self) -> float:
        """How many times as fast one thread is, where it is clearly faster; else 1."""
        if not (
            self.turns and self.alone and self.alone.is_clearly_faster_than(self.turns, _CLEARLY)
        ):
            return 1.0
        return self.turns.typical / self.alone.typical


@dataclass(frozen=True)
class _Work:
    """How long what is left takes one after the other, and its longest training alone."""

    seconds: float
    longest: float
    is_known: bool


Profiles = dict[object, _Profile]
"""By what a training is like; the first one is that of most steps."""


def _profiles(prepared: Prepared, threads: int) -> Profiles:
    plan, found = prepared.plan, Profiles()
    for kind in kinds(plan):
        keyed = kind.first.keyed
        profiler = TrainingProfiler(
            keyed, training_step(kind.first), prepared.datasets(keyed.trial.data)
        )
        cost, turns = profiler.measure(threads), profiler.train(sorted({1, threads}))
        found[kind.like] = _Profile(profiler, turns.get(threads), cost, turns.get(1))
    if not found:
        keyed = plan.measurings[0].trials[0]
        profiler = TrainingProfiler(keyed, None, prepared.datasets(keyed.trial.data))
        found[None] = _Profile(profiler, None, profiler.measure(threads))
    return found


def _first(tried: Profiles) -> _Profile:
    return next(iter(tried.values()))


def _work(prepared: Prepared, tried: Profiles) -> _Work:
    plan, cost = prepared.plan, _first(tried).cost
    trainings = [_training_seconds(training, tried) for training in plan.trainings]
    trials = [
        cost.fixed + cost.example * _examples_measured(prepared, trial) + _TASK_SECONDS
        for task in plan.measurings
        for trial in task.trials
    ]
    return _Work(
        seconds=sum(trainings) + sum(trials),
        longest=max(trainings, default=0.0),
        is_known=not trainings or all(one.turns for one in tried.values()),
    )


def _training_seconds(training: Training, tried: Profiles) -> float:
    one = tried.get(what_it_is_like(training), _first(tried))
    step_seconds = one.turns.typical if one.turns else 0.0
    keyed, epochs = training.keyed, training_step(training).epochs
    share = keyed.trial.data.validation
    held_out = share / (1 - share) * keyed.train_examples  # if from the training set; else about
    looking = epochs * held_out * one.cost.example
    return training.steps * step_seconds + looking + _TASK_SECONDS


def _examples_measured(prepared: Prepared, trial: KeyedTrial) -> int:
    """Return how many examples the measures of a trial predict; those of leakage the pool, too."""
    asked = trial.trial.measure.train_examples or trial.train_examples
    pool = 2 * trial.train_examples if trial.trial.measure.leakage else 0
    test = len(prepared.datasets(trial.trial.data).y_test)
    return min(asked, trial.train_examples) + test + pool


def _kept_bytes(prepared: Prepared, tried: Profiles) -> int:
    """Return about how many bytes more the folder will hold."""
    plan = prepared.plan
    states = sum(
        tried.get(what_it_is_like(one), _first(tried)).profiler.state_bytes
        for one in plan.trainings
    )
    statistics = sum(
        2 * _BYTES_OF_AN_EXAMPLE * trial.train_examples
        for task in plan.measurings
        for trial in task.trials
        if trial.trial.measure.leakage
    )
    return states + statistics + _BYTES_OF_A_TRIAL * plan.trials_left + _BYTES_OF_A_REPORT


def _chosen(prepared: Prepared, tried: Profiles, seconds: float) -> _Choice:
    """Choose what is not known; that many seconds of work are left."""
    known, cores, first = prepared.known, available_cores(), _first(tried)
    turns = _turns_by_threads(known, cores, first)
    if known.jobs is not None:
        return _with_speed(_on_threads(known.jobs, turns, cores), tried)
    alone = _on_threads(1, turns, cores)
    jobs = _most_jobs(prepared.plan, prepared.seeds, cores // (known.threads or 1))
    several = _with_speed(_on_threads(jobs, turns, cores), tried)
    return several if several.seconds(seconds) * _CLEARLY < alone.seconds(seconds) else alone


def _with_speed(choice: _Choice, tried: Profiles) -> _Choice:
    """Find out what so many processes get of a machine that is as busy as it is."""
    if choice.jobs == 1:
        return choice
    had = cores_had(choice.jobs)
    gain = max(1.0, had / _first(tried).share)
    start = _START_SECONDS / max(0.05, had / choice.jobs)
    return replace(choice, speed=choice.speed * gain, start=start)


def _turns_by_threads(known: Parallelism, cores: int, first: _Profile) -> dict[int, Turns]:
    """Let the numbers of threads that may be chosen take turns."""
    if known.threads is not None or first.turns is None:
        return {known.threads or 1: first.turns or Turns((1.0,))}
    most = min(cores // (known.jobs or 1), _MOST_THREADS)
    counts = [1 << power for power in range(most.bit_length())] if most > 1 else [1]
    if most > counts[-1]:
        counts.append(most)
    return dict(first.profiler.train(counts)) if len(counts) > 1 else {1: first.turns}


def _on_threads(jobs: int, turns: dict[int, Turns], cores: int) -> _Choice:
    """Choose the number of threads of each process that is clearly faster than fewer."""
    fewest = best = min(turns)
    for threads in sorted(turns):
        fits = threads * jobs <= max(cores, fewest * jobs)
        if fits and turns[threads].is_clearly_faster_than(turns[best], _CLEARLY):
            best = threads
    return _Choice(jobs, best, speed=turns[fewest].best / turns[best].best)


def _most_jobs(plan: Plan, seeds: int, cores: int) -> int:
    """Return how many processes would find something to do."""
    undone = {training.key for training in plan.trainings}
    ready = sum(not task.needs & undone for task in plan.tasks)
    return max(1, min(cores, max(seeds, ready)))
