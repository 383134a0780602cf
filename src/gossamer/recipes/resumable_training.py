"""Training from one state to the next, going on from a checkpoint where there is one."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gossamer.core.errors import InputError, StoreError
from gossamer.masks import Mask
from gossamer.networks.packing import faster_packed, pack, unpacked
from gossamer.networks.sparse_layer import SparseLayer
from gossamer.recipes.state import State, load_state, save_state, snapshot
from gossamer.records.record import Epoch
from gossamer.training.loop import Job, Standing, train
from gossamer.training.optimizers import make_optimizer, optimizer_tensors, restore_optimizer
from gossamer.training.updating import Updating

if TYPE_CHECKING:
    from gossamer.recipes.steps import Train, Work


def train_from(step: "Train", work: "Work") -> tuple[State, Standing]:
    """Train from a state, or from a checkpoint on the way; return the state it ends in.

    Raises
    ------
    TrainingError
        If the loss is no longer a number.
    Interrupted
        If the pulse asked to stop; a checkpoint was kept.
    InputError
        If training changes what no state holds.
    """
    before, data = work.before, work.data()
    start, standing, memory = _unfinished(work.checkpoint) or (before, Standing(), {})
    network = work.loaded(start)
    optimizer = make_optimizer(step.optimizer, network)
    if standing.steps or step.optimizer_state == "keep":
        restore_optimizer(optimizer, network, start.optimizer)
    sparse = {} if before.packed else _held(step, work, start.mask, network, optimizer)
    updating = None
    total = step.epochs * -(-len(data.train.labels) // step.batch)
    if step.updater is not None:
        updating = Updating(
            step.updater,
            network,
            optimizer,
            mask=None if before.packed else start.mask,
            seed=work.seed,
            example=data.train.inputs[:2],
            memory=memory,
            steps=total,
        )

    def mask() -> Mask | None:
        if updating is None:
            return before.mask
        return _moved(before.mask, updating.layers) if before.packed else updating.mask

    def now(standing: Standing) -> State:
        with unpacked(network, sparse, optimizer):
            return State(
                network=snapshot(network),
                mask=mask(),
                optimizer=optimizer_tensors(optimizer, network),
                epochs=before.epochs + len(standing.history),
                packed=before.packed,
            )

    def keep(standing: Standing) -> None:
        _keep(work.checkpoint, now(standing), standing, updating.memory if updating else {})

    job = Job(
        network=network,
        optimizer=optimizer,
        data=data.train,
        validation=data.validation,
        classes=work.classes,
        options=step,
        precision=work.precision,
        seed=work.seed,
        first_epoch=before.epochs,
        keep=keep,
        pulse=lambda standing: work.pulse(total, standing),
        updating=updating,
    )
    unsaved = _unsaved_buffers(network)
    ended = train(job, standing)
    _check_unsaved(unsaved, network)
    return now(ended), ended


def _held(
    step: "Train", work: "Work", mask: Mask | None, network: nn.Module, optimizer: Optimizer
) -> dict[str, Tensor]:
    """Hold a network at its mask; return the masks of layers that are packed for it.

    Those are packed that train faster so, with the same numbers within rounding. An updater needs
    them as they are, and in bfloat16 packed layers would compute in another precision.
    """
    if mask is None:
        return {}
    sparse: dict[str, Tensor] = {}
    if step.updater is None and work.precision == "float32" and not mask.attached:
        sparse = faster_packed(network, mask.weights, step.batch)
        pack(network, sparse, optimizer=optimizer)
    others = {name: kept for name, kept in mask.weights.items() if name not in sparse}
    if others:
        (Mask(others) if sparse else mask).enforce(network, optimizer)
    return sparse


def _moved(mask: Mask | None, layers: Mapping[str, SparseLayer]) -> Mask | None:
    """Return the mask of packed layers whose connections stand elsewhere by now."""
    if mask is None:
        return None
    weights = dict(mask.weights)
    for name, layer in layers.items():
        kept = torch.zeros(layer.weight_shape.numel(), dtype=torch.bool)
        kept[layer.positions.cpu()] = True
        weights[name] = kept.view(layer.weight_shape)
    return replace(mask, weights=weights)


_MEMORY = "updater/"
"""Under which a checkpoint has what an updater keeps."""


def _unfinished(path: Path) -> tuple[State, Standing, dict[str, Tensor]] | None:
    """Return where an unfinished training and its updater stood; damage counts as none."""
    if not path.is_file():
        return None
    try:
        state, notes = load_state(path)
        names = [name for name in notes if name.startswith(_MEMORY)]
        memory = {name.removeprefix(_MEMORY): notes.pop(name) for name in names}
        history = tuple(Epoch.model_validate(epoch) for epoch in notes.pop("history"))
        return state, Standing(history=history, **notes), memory
    except (StoreError, ValueError, TypeError, KeyError):
        return None


def _keep(path: Path, state: State, standing: Standing, memory: Mapping[str, Tensor]) -> None:
    """Write a checkpoint: the state as it is now, where the training stands, and its updater."""
    notes = dict(vars(standing))
    notes["history"] = [epoch.model_dump(mode="json") for epoch in standing.history]
    if standing.random is None:
        del notes["random"]
    kept = {f"{_MEMORY}{name}": value.detach().cpu() for name, value in memory.items()}
    save_state(path, state, {**notes, **kept})


def _unsaved_buffers(network: nn.Module) -> dict[str, Tensor]:
    """Return copies of the buffers that a ``state_dict`` leaves out."""
    saved = network.state_dict().keys()
    return {n: value.clone() for n, value in network.named_buffers() if n not in saved}


def _check_unsaved(before: Mapping[str, Tensor], network: nn.Module) -> None:
    for name, value in _unsaved_buffers(network).items():
        if name in before and not torch.equal(before[name], value):
            raise InputError(
                f"training changes the network's buffer {name!r}, which is not persistent, so no "
                "state could hold it: register it with persistent=True"
            )
