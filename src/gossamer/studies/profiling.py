"""Timing a study's first trainings for a moment: how fast they go, and on how many threads.

Networks of their own are trained on the first examples there are; states, random streams and the
number of threads are as before afterwards. Other work on the machine may come and go, so the
numbers of threads take turns, and the best of each counts for the choice.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import cycle
from statistics import median

import torch
from torch import nn

from gossamer.core.errors import TrainingError
from gossamer.data import Dataset
from gossamer.data.resident import Resident, make_resident
from gossamer.measures import versions
from gossamer.measures.functional import evaluate
from gossamer.networks import accepts_channels_last, build
from gossamer.recipes import KeyedTrial, Train
from gossamer.recipes.measuring import measure_network
from gossamer.recipes.trial_data import TrialData
from gossamer.studies.plan import Plan, Training
from gossamer.training.loop import Interrupted, Job, Standing, train
from gossamer.training.optimizers import make_optimizer

_EXAMPLES = 8_192
"""At most so many are tried with, which makes the end of an epoch as rare as it is."""
_FEW = 64
_TURN_SECONDS = 0.1
_TURNS = 4
"""Of each number of threads that is tried, after one that warms up."""
_MOST_SECONDS = 1.5
"""After which no turn begins, if each number of threads has had one."""
_LONG_SECONDS = 0.5
"""What takes longer is not measured again."""
_KINDS = 3
"""At most so many different trainings are tried."""
_ENDLESS = 1_000_000
_SPIN = (
    "import time\n"
    "begun, used = time.perf_counter(), time.process_time()\n"
    "while time.perf_counter() < begun + {seconds}: pass\n"
    "print((time.process_time() - used) / (time.perf_counter() - begun))"
)


@dataclass(frozen=True)
class Kind:
    """Trainings that take the same time a step."""

    like: object
    """What they have in common."""
    first: Training
    steps: int
    """Optimizer steps that are left of this kind."""


@dataclass(frozen=True)
class Turns:
    """Seconds a step, turn by turn."""

    seconds: tuple[float, ...]
    share: float = 1.0
    """Share of a core that the process had meanwhile."""

    @property
    def best(self) -> float:
        """The fastest turn, which other work disturbed least."""
        return min(self.seconds)

    @property
    def typical(self) -> float:
        """The middle turn."""
        return median(self.seconds)

    def is_clearly_faster_than(self, other: "Turns", by: float) -> bool:
        """Whether the best and the middle turn are faster by a factor, and the worst by any.

        Threads that wait for one another beside other work are fast now and then.
        """
        never_slower = max(self.seconds) < other.typical
        return never_slower and self.best * by < other.best and self.typical * by < other.typical


def kinds(plan: Plan) -> tuple[Kind, ...]:
    """Return the different trainings that are left, those of most steps first."""
    found: dict[object, Kind] = {}
    for training in plan.trainings:
        like = what_it_is_like(training)
        kind = found.get(like, Kind(like, training, 0))
        found[like] = Kind(like, kind.first, kind.steps + training.steps)
    return tuple(sorted(found.values(), key=lambda kind: -kind.steps))[:_KINDS]


def what_it_is_like(training: Training) -> object:
    """Return what the time of a step depends on."""
    trial, step = training.keyed.trial, training_step(training)
    return trial.network, trial.data.name, trial.precision, step.batch, step.augmentation


def training_step(training: Training) -> Train:
    """Return the step that a training does."""
    step = training.keyed.trial.steps[training.position]
    assert isinstance(step, Train)
    return step


@dataclass(frozen=True)
class Cost:
    """What measuring a network takes, in seconds."""

    fixed: float
    """Of measuring, whatever the number of examples."""
    example: float
    """Of predicting one example."""


class TrainingProfiler:
    """One kind of training, set up to be tried."""

    def __init__(self, keyed: KeyedTrial, step: Train | None, dataset: Dataset) -> None:
        trial = keyed.trial
        self._trial, self._step, self._classes = trial, step, dataset.classes
        network = build(trial.network, dataset.input_shape, dataset.classes, trial.seed)
        last = accepts_channels_last(network, dataset.input_shape)
        if last:
            network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network: nn.Module = network.to(trial.device)
        count = min(keyed.train_examples, _EXAMPLES)
        self._data = make_resident(
            dataset.x_train[:count],
            dataset.y_train[:count],
            dataset.scale,
            mean=trial.data.mean,
            std=trial.data.std,
            device=trial.device,
            channels_last=last,
        )

    @cached_property
    def state_bytes(self) -> int:
        """Bytes of a trained state, with what the optimizer keeps."""
        kept = {"sgd": 1, "adam": 2, "adamw": 2, "adadelta": 2}
        of_weights = sum(p.numel() * p.element_size() for p in self._network.parameters())
        copies = 1 + (kept.get(self._step.optimizer.name, 2) if self._step else 0)
        return copies * of_weights

    def train(self, threads: Sequence[int], turns: int = _TURNS) -> Mapping[int, Turns]:
        """Train on so many threads in turn.

        Raises
        ------
        GossamerError
            If the network cannot be trained.
        """
        assert self._step is not None
        clock = _Turning(threads, turns)
        job = Job(
            network=self._network,
            optimizer=make_optimizer(self._step.optimizer, self._network),
            data=self._data,
            validation=None,
            classes=self._classes,
            options=self._step.model_copy(update={"epochs": _ENDLESS, "early_stop": None}),
            precision=self._trial.precision,
            seed=self._trial.seed,
            pulse=clock.turn,
            pulse_seconds=_TURN_SECONDS,
        )
        with _threads_kept(), suppress(Interrupted, TrainingError):  # the run tells of the latter
            clock.begin()
            train(job)
        return {n: Turns(tuple(found), clock.share) for n, found in clock.found.items() if found}

    def measure(self, threads: int) -> Cost:
        """Measure the network on few examples, and predict more, to tell what both cost."""
        few = Resident(self._data.inputs[:_FEW], self._data.labels[:_FEW])
        data = TrialData(few, None, few, few, None)
        many = min(len(self._data), 2048)

        def fixed() -> object:
            return measure_network(
                self._network, None, data, self._classes, versions(leakage=False)
            )

        def predicted() -> object:
            inputs, labels = self._data.inputs[:many], self._data.labels[:many]
            return evaluate(self._network, inputs, labels, self._classes)

        with _threads_kept():
            torch.set_num_threads(threads)
            return Cost(_warm_seconds(fixed), _warm_seconds(predicted) / many)


def _warm_seconds(do: Callable[[], object], times: int = 3) -> float:
    """Return the middle time of several, after one that warms up."""
    seconds = []
    for _ in range(1 + times):
        started = time.perf_counter()
        do()
        seconds.append(time.perf_counter() - started)
        if sum(seconds[1:]) > _LONG_SECONDS:
            break
    return median(seconds[1:])


@dataclass
class _Turning:
    """Changes the number of threads at each turn of a training, and keeps the time."""

    threads: Sequence[int]
    turns: int
    found: dict[int, list[float]] = field(default_factory=dict)
    share: float = 1.0

    def begin(self) -> None:
        self.found = {threads: [] for threads in self.threads}
        # Every number of threads is warmed up in the first round.
        self._order = cycle(self.threads)
        self._left = len(self.threads) * (self.turns + 1)
        self._shares: list[float] = []
        self._begun = time.perf_counter()
        self._next(0)

    def turn(self, standing: Standing) -> bool:
        seconds = time.perf_counter() - self._since
        steps = standing.steps - self._steps
        warm = self._left <= len(self.threads) * self.turns
        if warm and steps:
            self.found[self._now].append(seconds / steps)
            if self._now == 1:
                self._shares.append((time.thread_time() - self._used) / seconds)
                self.share = min(1.0, median(self._shares))
        self._left -= 1
        late = time.perf_counter() > self._begun + _MOST_SECONDS and all(self.found.values())
        self._next(standing.steps)
        return late or self._left <= 0

    def _next(self, steps: int) -> None:
        self._now = next(self._order)
        torch.set_num_threads(self._now)
        self._steps, self._since, self._used = steps, time.perf_counter(), time.thread_time()


@contextmanager
def _threads_kept() -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cores_had(processes: int, seconds: float = 0.3) -> float:
    """Return how many cores so many busy processes get together, beside what else is running.

    Examples
    --------
    >>> 0 < cores_had(1, 0.05) <= 1.05
    True
    """
    command = [sys.executable, "-I", "-S", "-c", _SPIN.format(seconds=seconds)]
    spinning = [
        subprocess.Popen(  # noqa: S603 - this very Python
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        for _ in range(processes)
    ]
    shares = [process.communicate()[0] for process in spinning]
    return sum(float(share) for share in shares if share.strip())
