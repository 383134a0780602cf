"""Fine-tuning what a mask leaves, towards the targets and what the dense network gives."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from gossamer.core.errors import InputError, TrainingError
from gossamer.core.streams import stream_seed
from gossamer.graph.examples import tensors_in
from gossamer.masks import Mask
from gossamer.measures.functional.modes import evaluation
from gossamer.networks.generators import generators_kept, seed_generators
from gossamer.shrinking.features import features_read, output_layers
from gossamer.shrinking.layout import layout_of
from gossamer.shrinking.options import DEFAULT_RATE, Options, Train
from gossamer.shrinking.split import Split, mapped
from gossamer.shrinking.task import Task, device_of, logits, outputs_of
from gossamer.training import Precision
from gossamer.training.loop import autocast

_WARM_UP = 0.05
"""Share of the steps over which the rate rises."""
_LAST_RATE = 0.02
"""Share of the rate that is left at the end."""
_MOST_BYTES = 2**31
"""What the dense network gives for all examples is kept up to so much."""
_STATISTICS_EXAMPLES = 8192
"""From how many examples the statistics of batch normalisations are estimated again."""


class StoppedError(Exception):
    """Someone asked for an end, or time is over."""


Answered = tuple[Any, list[Tensor]]
"""Inputs, and what a network gives for them."""

Pulse = Callable[[float], None]
"""Told how many epochs are done, now and then; raises `StoppedError` where that is the end."""


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a sparse network learns from: examples, and what the dense network gives for them."""

    split: Split
    task: Task
    teacher: nn.Module
    options: Options
    answers: tuple[Tensor, ...] | None
    """Of the dense network for all examples; None where these are others at each reading."""
    train: Train | None = None
    rate: float = DEFAULT_RATE
    """Of Adam, at its highest."""
    features: tuple[str, ...] = ()
    """Layers whose inputs are to be as the dense network's, too."""
    precision: Precision = "float32"
    """What networks compute in while they are trained; weights and losses are float32."""

    @property
    def steps(self) -> int:
        """Optimizer steps of one epoch."""
        return self.split.shuffled_batches(self.options.train_batch)


def lesson(
    split: Split, task: Task, teacher: nn.Module, options: Options, train: Train | None
) -> Lesson:
    """Return what is learnt from; the dense network runs over all examples once.

    Raises
    ------
    InputError
        If features are to be learnt from and the output layer cannot be found, or the training is
        one's own; or if that or the loss is, and another precision than float32 is asked for.
    """
    if options.precision == "bf16" and (train is not None or not task.is_classification):
        raise InputError(
            "precision is 'bf16', which is for telling classes apart by the usual training: leave "
            "it out, and a training of your own computes in what it likes"
        )
    rate = options.rate or DEFAULT_RATE
    if options.distill_features:
        if train is not None:
            raise InputError("distill_features cannot stand beside train, a training of your own")
        features = output_layers(teacher, split.example())
        return Lesson(split, task, teacher, options, None, rate=rate, features=features)
    if train is not None or not split.is_resident or not options.distillation:
        return Lesson(split, task, teacher, options, None, train, rate)
    found = []
    with torch.no_grad(), evaluation(teacher):
        for inputs, _ in split.batches(512):
            outputs = outputs_of(teacher, inputs)
            found.append([one.float().cpu() for one in learnt_outputs(task, outputs)])
            bytes_each = sum(one.nbytes for one in found[0]) / len(found[0][0])
            if bytes_each * len(split) > _MOST_BYTES:  # as of images: computed anew when needed
                return Lesson(split, task, teacher, options, None, rate=rate)
    answers = tuple(torch.cat(each) for each in zip(*found, strict=True))
    return Lesson(split, task, teacher, options, answers, rate=rate)


def learnt_outputs(task: Task, outputs: Any) -> list[Tensor]:
    """Return the tensors of an output that the sparse network is to give, too."""
    if task.is_classification:
        return [logits(outputs)]
    return [one for one in tensors_in(outputs) if one.is_floating_point()]


def distance(
    task: Task, given: list[Tensor], wanted: list[Tensor], temperature: float = 1.0
) -> Tensor:
    """Return how far outputs are from the dense network's.

    Of classes it is the divergence of Kullback and Leibler, in nats, between the probabilities at a
    temperature, times its square (Hinton et al. 2015, "Distilling the knowledge in a neural
    network", arXiv 1503.02531); of other outputs the mean square of the difference, relative to the
    variance of what is wanted.
    """
    if task.is_classification:
        own, other = (
            functional.log_softmax(one.float() / temperature, 1) for one in (given[0], wanted[0])
        )
        found = functional.kl_div(own, other, reduction="batchmean", log_target=True)
        return found * temperature**2
    return relative_distance(given, wanted)


def distance_from(dense: nn.Module, network: nn.Module, some: Split, task: Task) -> float:
    """Return how far a network's outputs are from the dense one's, on some examples."""
    return mean_distance(network, answered_by(dense, some, task), task)


def answered_by(network: nn.Module, some: Split, task: Task) -> Iterator[Answered]:
    """Yield batches of inputs, and what a network gives for them that is to be learnt."""
    for inputs, _ in some.batches(512):
        with torch.no_grad(), evaluation(network):
            found = learnt_outputs(task, outputs_of(network, inputs))
        yield inputs, found


def mean_distance(network: nn.Module, answered: Iterable[Answered], task: Task) -> float:
    """Return how far a network's outputs are from those of another for the same inputs."""
    parts = []
    for inputs, wanted in answered:
        with torch.no_grad(), evaluation(network):
            given = learnt_outputs(task, outputs_of(network, inputs))
        parts.append(float(distance(task, given, wanted)))
    return sum(parts) / len(parts)


def relative_distance(given: list[Tensor], wanted: list[Tensor]) -> Tensor:
    """Return the mean square of the difference, relative to the variance of what is wanted."""
    parts = [
        functional.mse_loss(one.float(), other.float()) / other.float().var().clamp(min=1e-12)
        for one, other in zip(given, wanted, strict=True)
    ]
    return torch.stack(parts).mean()


def fine_tune(
    network: nn.Module, mask: Mask, learnt: Lesson, epochs: float, number: int, pulse: Pulse
) -> tuple[float, ...]:
    """Train a network under its mask, and estimate the statistics of its normalisations again.

    The rate rises and falls once, so that each candidate ends with a settled network (Smith 2017;
    Huang et al. 2017, "Snapshot ensembles", arXiv 1704.00109).

    Parameters
    ----------
    network
        Changed in place.
    mask
        What stays.
    learnt
        What it learns from.
    epochs
        Passes over the training examples; the last may be a part of one.
    number
        Of the candidate: each has random streams of its own.
    pulse
        See `Pulse`.

    Returns
    -------
    tuple of float
        The mean loss of each epoch; none of a training of one's own.

    Raises
    ------
    TrainingError
        If the loss is no longer a number.
    InputError
        If a training of one's own revives what was pruned.
    """
    mask.apply(network)
    if learnt.train is not None:
        _by_hand(network, mask, learnt.train, int(epochs))
        losses: tuple[float, ...] = ()
    else:
        losses = train_epochs(network, mask, learnt, epochs, number, pulse)
    estimate_statistics(network, learnt.split, learnt.options.seed, number)
    if violations := mask.violations(network):
        name, count = next(iter(violations.items()))
        raise InputError(f"{count} pruned weights of {name} are not zero after fine-tuning")
    return losses


def _by_hand(network: nn.Module, mask: Mask, train: Train, epochs: int) -> None:
    network.train()
    train(network, mask, epochs)
    if violations := mask.violations(network):
        name, count = next(iter(violations.items()))
        raise InputError(
            f"train: {count} pruned weights of {name} are not zero afterwards: call "
            "mask.enforce(model, optimizer) before the first step"
        )


def train_epochs(
    network: nn.Module, mask: Mask, learnt: Lesson, epochs: float, number: int, pulse: Pulse
) -> tuple[float, ...]:
    """Train a network under its mask, and return the mean loss of each epoch, or part of one."""
    options, rate = learnt.options, learnt.rate
    layout = layout_of(network, learnt.split)
    network.to(memory_format=layout)  # type: ignore[call-overload]
    trained = [one for one in network.parameters() if one.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=rate)
    enforcement = mask.enforce(network, optimizer)
    network.train()
    total, step, losses = max(1, round(epochs * learnt.steps)), 0, []
    split = _with_answers(learnt)
    seed = stream_seed(options.seed, "shrink", number)
    with generators_kept():
        seed_generators(seed)
        for epoch in range(math.ceil(total / learnt.steps)):
            last_look, before = time.monotonic(), step
            running = torch.zeros((), device=device_of(network))
            batches = split.batches(options.train_batch, seed=seed, epoch=epoch)
            for inputs, targets in islice(batches, total - step):
                optimizer.param_groups[0]["lr"] = rate * _shape(step / total)
                inputs = mapped(inputs, lambda one: one.contiguous(memory_format=layout))
                loss = loss_of(network, learnt, inputs, targets)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                running += loss.detach()
                step += 1
                if time.monotonic() - last_look > 0.5:
                    pulse(step / learnt.steps)
                    last_look = time.monotonic()
            summed = float(running) / (step - before)
            if not math.isfinite(summed):
                raise TrainingError(
                    f"the loss of fine-tuning is no longer a number in epoch {epoch + 1}: give a "
                    f"smaller rate than {rate:g}"
                )
            losses.append(summed)
            pulse(step / learnt.steps)
    enforcement.remove()
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return tuple(losses)


def _shape(done: float) -> float:
    """Return the share of the rate: a short rise, then half a cosine."""
    if done < _WARM_UP:
        return max(done / _WARM_UP, _LAST_RATE)
    falling = (done - _WARM_UP) / (1 - _WARM_UP)
    return _LAST_RATE + (1 - _LAST_RATE) * (1 + math.cos(math.pi * falling)) / 2


def _with_answers(learnt: Lesson) -> Split:
    """Return the training examples with what the dense network gives among their targets."""
    if learnt.answers is None:
        return learnt.split
    return replace(learnt.split, targets=(learnt.split.targets, learnt.answers))


def loss_of(network: nn.Module, learnt: Lesson, inputs: Any, targets: Any) -> Tensor:
    """Return the loss of a batch: towards its targets and what the dense network gives."""
    where = device_of(network)
    share = learnt.options.distillation
    computing = partial(autocast, learnt.precision, where.type)
    with computing(), features_read(network, learnt.features) as features:
        outputs = outputs_of(network, inputs, where)
    if learnt.precision != "float32":
        outputs = logits(outputs).float()
    if not share:
        return learnt.task.loss(outputs, mapped(targets, lambda one: one.to(where)))
    dense_features: list[Tensor] = []
    if learnt.answers is None:
        teacher_runs = features_read(learnt.teacher, learnt.features)
        taught = evaluation(learnt.teacher)
        with computing(), torch.no_grad(), taught, teacher_runs as dense_features:
            wanted = learnt_outputs(learnt.task, outputs_of(learnt.teacher, inputs, where))
    else:
        targets, answers = targets
        wanted = [one.to(where) for one in answers]
    given = learnt_outputs(learnt.task, outputs)
    towards = distance(learnt.task, given, wanted, learnt.options.temperature)
    if features:
        towards = towards + relative_distance(features, dense_features)
    own = learnt.task.loss(outputs, mapped(targets, lambda one: one.to(where)))
    return share * towards + (1 - share) * own


def estimate_statistics(network: nn.Module, split: Split, seed: int, number: int) -> None:
    """Take the running means and variances of batch normalisations anew, of training examples.

    All batches count alike, as in Izmailov et al. (2018, arXiv 1803.05407) and Li et al. (2020,
    "EagleEye", arXiv 2007.02491); the rest of the network computes as it will be used.
    """
    layers = [
        one for one in network.modules() if isinstance(one, _BatchNorm) and one.track_running_stats
    ]
    if not layers:
        network.eval()
        return
    momenta: Mapping[_BatchNorm, float | None] = {one: one.momentum for one in layers}
    some = split.sample(_STATISTICS_EXAMPLES, seed)
    network.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # which means: the mean over all batches
        layer.training = True
    with torch.no_grad(), generators_kept():
        size = math.ceil(len(some) / math.ceil(len(some) / 256))  # as all batches count alike
        for inputs, _ in some.batches(size, seed=stream_seed(seed, "statistics", number)):
            outputs_of(network, inputs)
    for layer in layers:
        layer.momentum = momenta[layer]
    network.eval()
