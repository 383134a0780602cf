"""From what a command line names to a network with its weights, its data and its task."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from gossamer.benchmarking.subjects import Subject, build_network, subject
from gossamer.compression.checkpoints import load_weights
from gossamer.core.errors import InputError
from gossamer.core.formats import likeliest
from gossamer.networks import names
from gossamer.networks.imported import imported_module, imported_value
from gossamer.shrinking.data import Data, read_data
from gossamer.shrinking.task import Task, task_of


@dataclass(frozen=True, eq=False)
class Given:
    """What a command works on."""

    network: nn.Module
    data: Data
    task: Task
    notes: tuple[str, ...]
    """What a user should be told beforehand, each a sentence."""


def resolved(
    model: str,
    data: str,
    weights: Path | None = None,
    *,
    arguments: Mapping[str, Any] | None = None,
    loss: str | None = None,
    metric: str | None = None,
    higher_is_better: bool | None = None,
    seed: int = 0,
    test: bool = True,
) -> Given:
    """Return a network, its data and its task; whether they go together is for `check_task`.

    Parameters
    ----------
    model
        A built-in name, or ``package.module:callable`` or ``file.py:callable``.
    data
        See `gossamer.shrinking.data.read_data`.
    weights
        A file of the network's state_dict; None: the network is taken as it is made.
    arguments
        What the callable is called with.
    loss, metric
        ``module:callable``, functions of outputs and targets; both or none.
    higher_is_better
        Of the metric.
    seed
        Decides which training examples become validation where no validation set is given.
    test
        Whether a test set is needed.

    Raises
    ------
    InputError
        If something is not there, or cannot be read.
    """
    check_model(model)
    functions = [
        None if name is None else imported_value(name, what, called=False)
        for name, what in ((loss, "loss"), (metric, "metric"))
    ]
    task = task_of(*functions, higher_is_better=higher_is_better)
    read = read_data(data, seed=seed, test=test)
    network = _network(model, read, weights, arguments or {})
    notes = read.notes
    if weights is None:
        notes = (f"No --weights were given: {model} is taken as it is made.", *notes)
    return Given(network.eval(), read, task, notes)


def check_model(model: str) -> None:
    """Refuse what names no network, before any data is read.

    Raises
    ------
    InputError
        If it is a file, or no name that is known.
    """
    if ":" in model or model in names():
        return
    if Path(model).is_file():
        if model.endswith(".gsm"):
            raise InputError(
                f"{model}: is compressed already; give the network that it was made from."
            )
        subject(model)  # which says what to give in the place of a file
    near = likeliest(model, names())
    hint = f" (did you mean {near!r}?)" if near else ""
    raise InputError(
        f"There is no network {model!r}{hint}: give package.module:callable or file.py:callable "
        f"for your own, or one of {', '.join(names())}."
    )


def _network(
    model: str, data: Data, weights: Path | None, arguments: Mapping[str, Any]
) -> nn.Module:
    if ":" in model:
        network = imported_module(model, arguments)
        if weights is not None:
            load_weights(network, weights)
        return network
    example, classes = data.example(), data.train.classes
    if not isinstance(example, Tensor) or classes is None:
        raise InputError(
            f"{model} takes one tensor and tells classes apart, but the data has several inputs "
            "or other targets: give package.module:callable for a network of your own."
        )
    count = len(data.class_names or ()) or int(classes.max()) + 1
    shape = tuple(example.shape[1:])
    return build_network(Subject(model, shape, count, weights, arguments=arguments))
