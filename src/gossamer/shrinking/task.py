"""What a network is for: the loss that trains it, and the metric that must not drop."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gossamer.core.errors import InputError
from gossamer.graph.examples import arguments_of, described, tensors_in, told
from gossamer.graph.keeping import unchanged
from gossamer.shrinking.layout import laid_out, layout_of
from gossamer.shrinking.split import Split, mapped

Loss = Callable[[Any, Any], Tensor]
"""From what the network gives for a batch and the targets to the mean over its examples."""

Metric = Callable[[Any, Any], Tensor]
"""From what the network gives for a batch and the targets to one number for each example."""


@dataclass(frozen=True)
class Task:
    """A loss and a metric. Drops are compared example by example, so the metric gives one for each.

    Parameters
    ----------
    loss
        See `Loss`.
    metric
        See `Metric`; what is reported is its mean over examples.
    higher_is_better
        False for errors.
    name
        What the metric is called.
    is_binary
        Whether the metric is 0 or 1 of each example, so that exact tests of shares apply.
    is_classification
        Whether outputs are a logit for each class, and targets class numbers.
    """

    loss: Loss
    metric: Metric
    higher_is_better: bool = True
    name: str = "metric"
    is_binary: bool = False
    is_classification: bool = False

    def drop(self, before: Tensor, after: Tensor) -> Tensor:
        """Return how much worse each example became, of the metric's values before and after."""
        difference = before.double() - after.double()
        return difference if self.higher_is_better else -difference

    def values(self, outputs: Any, targets: Any, examples: int) -> Tensor:
        """Return the metric of each example of a batch, ``[examples]``, float64.

        Raises
        ------
        InputError
            If the metric fails, or gives anything else than a finite number for each example.
        """
        try:
            found = self.metric(outputs, targets)
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"the metric fails ({told(error)}): give a function of what the network gives and "
                "the targets"
            ) from error
        if not isinstance(found, Tensor) or tuple(found.shape) != (examples,):
            given = (
                f"a tensor of shape {list(found.shape)}"
                if isinstance(found, Tensor)
                else type(found).__name__
            )
            raise InputError(
                f"the metric must give one number for each of the {examples} examples of a batch, "
                f"a tensor of shape [{examples}], not {given}: leave out its mean over the batch"
            )
        values = found.detach().double().cpu()
        if not values.isfinite().all():
            raise InputError("the metric gives NaN or infinite numbers, expected finite ones")
        return values


def points(value: float, task: Task) -> str:
    """Return a drop as people say it: in points of a share, else as a number."""
    return f"{100 * value:.2f} points" if task.is_binary else f"{value:.4g}"


def logits(outputs: Any) -> Tensor:
    """Return the tensor of logits among what a network gives: itself, or what is called so.

    Raises
    ------
    InputError
        If there is none.
    """
    found = outputs
    if isinstance(outputs, Mapping):
        found = outputs.get("logits")
    elif not isinstance(outputs, Tensor):
        found = getattr(outputs, "logits", None)
    if not isinstance(found, Tensor) or found.ndim != 2:
        given = (
            f"shape {list(found.shape)}" if isinstance(found, Tensor) else type(outputs).__name__
        )
        raise InputError(
            f"the network gives {given}, but logits of shape [examples, classes] were expected: "
            "give loss and metric functions for another task"
        )
    return found


def classification() -> Task:
    """Return the task of telling classes apart: cross-entropy, and whether each is right.

    Examples
    --------
    >>> task = classification()
    >>> task.metric(torch.tensor([[2.0, 1.0], [2.0, 1.0]]), torch.tensor([0, 1])).tolist()
    [1.0, 0.0]
    """
    return Task(_cross_entropy, _correct, name="accuracy", is_binary=True, is_classification=True)


def _cross_entropy(outputs: Any, targets: Tensor) -> Tensor:
    return functional.cross_entropy(logits(outputs), targets)


def _correct(outputs: Any, targets: Tensor) -> Tensor:
    return (logits(outputs).argmax(dim=1) == targets).double()


def task_of(
    loss: Loss | None = None,
    metric: Metric | None = None,
    *,
    higher_is_better: bool | None = None,
    name: str | None = None,
) -> Task:
    """Return the task of a loss and a metric of one's own; without both it is classification.

    Raises
    ------
    InputError
        If there is one of the two alone, or it is not said which way the metric is better.
    """
    if loss is None and metric is None:
        if higher_is_better is not None:
            raise InputError("higher_is_better is said of a metric: give metric and loss, too")
        return classification()
    if loss is None or metric is None:
        missing = "loss" if loss is None else "metric"
        raise InputError(
            f"{missing} is missing: a task of one's own needs both, a loss that gives the mean "
            "over a batch and a metric that gives one number for each example"
        )
    if higher_is_better is None:
        raise InputError(
            "higher_is_better is missing: say whether a larger metric is better (True or "
            "--higher-is-better, as of an accuracy) or a smaller one (False or --lower-is-better, "
            "as of an error)"
        )
    for what, function in (("loss", loss), ("metric", metric)):
        if not callable(function):
            raise InputError(
                f"{what} must be a function of outputs and targets, not {type(function).__name__}"
            )
    own = name or getattr(metric, "__name__", "metric").replace("_", " ")
    return Task(loss, metric, higher_is_better, own)


def device_of(network: nn.Module) -> torch.device:
    """Return where a network's parameters are; the processor if they are in several places."""
    devices = {parameter.device for parameter in network.parameters()}
    return devices.pop() if len(devices) == 1 else torch.device("cpu")


def outputs_of(network: nn.Module, inputs: Any, device: torch.device | None = None) -> Any:
    """Return what a network gives for a batch, which is put where the network is.

    Raises
    ------
    InputError
        If the network fails on it.
    """
    where = device or device_of(network)
    args, kwargs = arguments_of(inputs)
    try:
        return network(
            *mapped(args, lambda one: one.to(where)), **mapped(kwargs, lambda one: one.to(where))
        )
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"the network {type(network).__name__} fails on a batch of the data "
            f"({described(inputs)}; {told(error)}): give inputs that it takes"
        ) from error


def evaluate(network: nn.Module, split: Split, task: Task, batch_size: int = 256) -> Tensor:
    """Return the metric of each example in the order of the data, ``[examples]``, float64.

    The network runs in evaluation mode, and is as before afterwards.

    Raises
    ------
    InputError
        If the network or the metric fails.

    Examples
    --------
    >>> split = Split(torch.eye(3), torch.tensor([0, 1, 0]))
    >>> evaluate(nn.Identity(), split, classification()).tolist()
    [1.0, 1.0, 0.0]
    """
    where, layout = device_of(network), layout_of(network, split)
    found = []
    network = laid_out(network, layout)
    with unchanged(network), torch.no_grad():
        network.eval()
        for inputs, targets in split.batches(batch_size):
            inputs = mapped(inputs, lambda one: one.contiguous(memory_format=layout))
            outputs = outputs_of(network, inputs, where)
            targets = mapped(targets, lambda one: one.to(where))
            found.append(task.values(outputs, targets, _examples(targets, inputs)))
    return torch.cat(found)


def check_task(network: nn.Module, split: Split, task: Task, what: str = "train") -> None:
    """Refuse data, a network and a task that do not go together, before any work.

    The loss of a few examples is computed and followed back to the weights, the metric taken of
    them; of classes every label is looked at.

    Raises
    ------
    InputError
        If the network fails on the data, the loss is no finite number that depends on the weights,
        the metric gives no number for each example, or a label is no class of the network's.
    """
    where = device_of(network)
    inputs, targets = next(split.batches(min(8, len(split))))
    targets = mapped(targets, lambda one: one.to(where))
    with unchanged(network), torch.enable_grad():
        network.eval()
        outputs = outputs_of(network, inputs, where)
        if task.is_classification:
            _check_classes(what, logits(outputs), split, targets)
        task.values(outputs, targets, _examples(targets, inputs))
        _check_loss(what, task, outputs, targets, network)


def _check_classes(what: str, found: Tensor, split: Split, targets: Any) -> None:
    if not isinstance(targets, Tensor) or targets.ndim != 1 or targets.is_floating_point():
        given = (
            f"of shape {list(targets.shape)}, {str(targets.dtype).removeprefix('torch.')}"
            if isinstance(targets, Tensor)
            else type(targets).__name__
        )
        raise InputError(
            f"{what}: targets are {given}, expected a class number for each example, [examples] of "
            "whole numbers: give class numbers as int64, argmax of one-hot rows, or loss and "
            "metric functions for another task"
        )
    labels = split.classes
    labels = targets.numpy(force=True) if labels is None else labels
    if found.shape[1] == 1:
        raise InputError(
            f"{what}: the network gives one output, but a logit for each class was expected: give "
            "loss and metric functions, such as binary_cross_entropy_with_logits and its hits"
        )
    if labels.min() < 0 or labels.max() >= found.shape[1]:
        raise InputError(
            f"{what}: labels reach from {labels.min()} to {labels.max()}, but the network tells "
            f"{found.shape[1]} classes apart: labels from 0 to {found.shape[1] - 1} were expected"
        )


def _check_loss(what: str, task: Task, outputs: Any, targets: Any, network: nn.Module) -> None:
    try:
        loss = task.loss(outputs, targets)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{what}: the loss fails ({told(error)}): give a function of what the network gives "
            "and the targets"
        ) from error
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        given = f"a tensor of shape {list(loss.shape)}" if isinstance(loss, Tensor) else type(loss)
        raise InputError(
            f"{what}: the loss must be one number, the mean over the examples, not {given}"
        )
    if not bool(loss.isfinite()):
        raise InputError(f"{what}: the loss is {loss.item()}, expected a finite number")
    trained = any(parameter.requires_grad for parameter in network.parameters())
    if trained and not loss.requires_grad:
        raise InputError(f"{what}: the loss does not depend on the weights: leave out no gradient")


def _examples(targets: Any, inputs: Any) -> int:
    return len((tensors_in(targets) or tensors_in(inputs))[0])
