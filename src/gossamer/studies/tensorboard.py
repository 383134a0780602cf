"""A run as TensorBoard shows it: losses and accuracies by epoch, the graph, the weights."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from gossamer.core.errors import InputError
from gossamer.core.installing import needing
from gossamer.networks import build
from gossamer.recipes.state import load_state
from gossamer.records.record import Epoch, Phase
from gossamer.records.store import Store
from gossamer.studies.run import Prepared

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_CURVES = (
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
    "rate",
    "density",
)


def write_tensorboard(prepared: Prepared, store: Store, folder: Path) -> int:
    """Write one TensorBoard run for each training of a study that is done; return how many.

    Parameters
    ----------
    prepared
        The study.
    store
        Where its trainings are kept.
    folder
        What `tensorboard --logdir` is given; made if it is not there.

    Raises
    ------
    MissingPackageError
        If TensorBoard is not installed.
    InputError
        If the folder cannot be written.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of TensorBoard's own dependencies
        with needing("tensorboard", "--tensorboard"):
            from torch.utils.tensorboard import SummaryWriter
    trainings = _named_trainings(prepared)
    phases = store.phases(list(trainings))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for key, phase in phases.items():
            _clear(folder / trainings[key])
            with SummaryWriter(str(folder / trainings[key])) as writer:
                for epoch in phase.history:
                    _write_epoch(writer, epoch)
                _write_weights(writer, phase, store)
        if phases:
            _clear(folder / "graph")
            with SummaryWriter(str(folder / "graph")) as writer:
                _write_graph(writer, prepared)
    except OSError as error:
        raise InputError(f"TensorBoard's folder {folder} cannot be written: {error}") from error
    return len(phases)


def _named_trainings(prepared: Prepared) -> dict[str, str]:
    """Name each trained state by its first arm, level, seed and place in the recipe."""
    names: dict[str, str] = {}
    for planned in prepared.plan.trials:
        trial = planned.keyed.trial
        for number, key in enumerate(planned.keyed.phases, start=1):
            name = f"{planned.arm}/{planned.level:g}/seed-{trial.seed}/training-{number}"
            names.setdefault(key, name)
    return names


def _clear(folder: Path) -> None:
    """Remove what an earlier run wrote, so that its curves do not lie over the new ones."""
    for path in folder.glob("events.out.tfevents.*"):
        path.unlink()


def _write_epoch(writer: "SummaryWriter", epoch: Epoch) -> None:
    for curve in _CURVES:
        value = getattr(epoch, curve)
        if value is not None:
            writer.add_scalar(curve, value, epoch.epoch)


def _write_weights(writer: "SummaryWriter", phase: Phase, store: Store) -> None:
    state, _ = load_state(store.state_path(phase.key))
    for name, value in state.network.items():
        if value.is_floating_point() and value.numel() > 1:
            writer.add_histogram(name, value, phase.history[-1].epoch)


def _write_graph(writer: "SummaryWriter", prepared: Prepared) -> None:
    dataset = prepared.datasets(prepared.spec.data)
    network = build(prepared.spec.network, dataset.input_shape, dataset.classes, seed=0).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing is deprecated, but it is what TensorBoard reads
        try:
            writer.add_graph(network, torch.zeros(1, *dataset.input_shape))
        except Exception as error:
            raise InputError(
                f"TensorBoard has everything but the graph of {prepared.spec.network.name}, which "
                f"cannot be traced: {str(error).splitlines()[0]}"
            ) from error
