"""The same descent by Torch-Pruning (Fang et al. 2023, "DepGraph", arXiv 2301.12900)."""

import copy
import math
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import gossamer
from gossamer.masks import Mask
from gossamer.shrinking.costs import dense_bytes
from gossamer.shrinking.descent import MOST, Way, shared_out
from gossamer.shrinking.features import output_layers
from gossamer.shrinking.judging import drop_interval, judged
from gossamer.shrinking.ordering import Order
from gossamer.shrinking.piloting import tried_rate
from gossamer.shrinking.searching import Search, early_in
from gossamer.shrinking.task import evaluate
from gossamer.shrinking.teaching import Room, rate_for, taught

_KEPT = 0.8
"""Share of the units that each candidate keeps of the one before."""
_SCORED = 8
"""Batches of whose gradients importance is made."""


def descended(search: Search, way: str, epochs: int, folder: Path) -> dict[str, Any]:
    """Prune by groups across layers, train and test until a candidate breaks the budget.

    The learning rate is found out, and each candidate trained, as in a search of gossamer's.

    Parameters
    ----------
    search
        Data, task, budget and training, as of a search of gossamer's.
    way
        "Torch-Pruning magnitude" or "Torch-Pruning Taylor".
    epochs
        Of all candidates.
    folder
        Where the file of the best goes.
    """
    pruning: Any = import_module("torch_pruning")
    network, example = copy.deepcopy(search.dense), search.ground.few
    kinds = pruning.importance
    importance = (
        kinds.GroupTaylorImportance()
        if way.endswith("Taylor")
        else kinds.GroupMagnitudeImportance()
    )
    pruner = pruning.pruner.BasePruner(
        network, example, importance, global_pruning=True, pruning_ratio=1 - _KEPT**MOST,
        iterative_steps=MOST,
        iterative_pruning_ratio_scheduler=lambda _, steps: [1 - _KEPT**i for i in range(steps + 1)],
        ignored_layers=[network.get_submodule(one) for one in output_layers(network, example)],
    )  # fmt: skip
    units = Way("unit", lambda _: {}, {})
    rate, spent = tried_rate(
        units, network, search.learnt, search.ground, epochs, search.pulse, search.follow
    )
    best, best_drop, tried = copy.deepcopy(network), 0.0, 0
    shares, before = shared_out(epochs - spent, MOST), None
    left, within = sum(shares), list[bool]()
    order = Order(early_in(search.budget, MOST), search.budget.confidence)
    for number, each in enumerate(shares):
        _gradients(network, search)
        pruner.step()
        network.zero_grad()
        room = Room(left * each / sum(shares[number:]), left)
        own = rate_for(rate, room.share * search.learnt.steps, number / (MOST - 1))
        learnt = replace(search.learnt, rate=own)
        told = taught(
            search.dense, network, _whole(network), learnt, room, before, number, search.pulse,
            search.follow,
        )  # fmt: skip
        left, before = left - told.epochs, told.distance
        values = evaluate(network, search.data.validation, search.budget.task)
        found = judged(search.budget, values, order.sure(within))
        size = sum(one.numel() for one in network.parameters())
        print(
            f"    {size:,} parameters, drop {100 * found.drop:.2f}, at most {100 * found.bound:.2f}"
        )
        within.append(found.within and order.is_tested(within))
        if within[-1]:
            best, best_drop, tried = copy.deepcopy(network), found.drop, number + 1
        if order.has_ended(within):
            break
    return _kept(search, best.eval(), tried, best_drop, folder)


def _gradients(network: nn.Module, search: Search) -> None:
    network.eval()
    some = search.learnt.split.sample(_SCORED * 128, 0)
    with torch.enable_grad():
        for inputs, targets in some.batches(128):
            search.learnt.task.loss(network(inputs), targets).backward()  # type: ignore[no-untyped-call]


def _whole(network: nn.Module) -> Mask:
    held = {n: p for n, p in network.named_parameters() if p.ndim > 1}
    return Mask({name: torch.ones_like(one, dtype=torch.bool) for name, one in held.items()})


def _kept(search: Search, best: nn.Module, tried: int, drop: float, folder: Path) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    small = gossamer.compress(best, search.meter.example, threads=1, choose="engine")
    small.save(folder / "network.gsm")
    task, test = search.budget.task, search.data.test
    assert test is not None
    drops = task.drop(*(evaluate(one, test, task) for one in (search.dense, best)))
    before, after = dense_bytes(search.dense), (folder / "network.gsm").stat().st_size
    told = f"{tried} candidates within the budget; {drop:.4f} lost on validation data"
    assert math.isfinite(drop)
    return {
        "findings": [told],
        "drop": drop_interval(task, drops, search.budget.confidence).model_dump(),
        "bytes": [before, after],
        "seconds": None,
    }


def channels_removed(
    model: nn.Module, example: tuple[Tensor, ...], share: float = 0.5
) -> tuple[nn.Module, dict[str, Tensor]]:
    """Remove a share of the channels of each group by Torch-Pruning, chosen at random.

    Returns
    -------
    nn.Module
        What Torch-Pruning leaves.
    dict of Tensor
        By name of parameter, which of its numbers are left, by their places in the flat parameter.
    """
    pruning: Any = import_module("torch_pruning")
    torch.manual_seed(0)
    places = copy.deepcopy(model).double()
    held = dict(places.named_parameters()) | dict(places.named_buffers())
    with torch.no_grad():
        for tensor in held.values():
            if tensor.is_floating_point():  # what is left of them tells what was cut
                tensor.copy_(torch.arange(tensor.numel()).view(tensor.shape))
    few = tuple(one.double() if one.is_floating_point() else one for one in example)
    ignored = [places.get_submodule(one) for one in output_layers(model, example)]
    pruner = pruning.pruner.BasePruner(
        places, few, pruning.importance.RandomImportance(), pruning_ratio=share,
        ignored_layers=ignored,
    )  # fmt: skip
    pruner.step()
    kept = {name: parameter.detach().long() for name, parameter in places.named_parameters()}
    smaller = copy.deepcopy(places).to(torch.float32)
    whole = dict(model.named_parameters()) | dict(model.named_buffers())
    left = dict(smaller.named_parameters()) | dict(smaller.named_buffers())
    for name, tensor in left.items():
        if tensor.is_floating_point():
            index = (dict(places.named_parameters()) | dict(places.named_buffers()))[name].long()
            tensor.data = whole[name].detach().flatten()[index]
    return smaller.eval(), kept


def with_channels_zero(model: nn.Module, kept: dict[str, Tensor]) -> nn.Module:
    """Return a copy with zeros for all numbers of its parameters that are not left."""
    masked = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in masked.named_parameters():
            gone = torch.ones(parameter.numel(), dtype=torch.bool)
            gone[kept[name].flatten()] = False
            parameter.masked_fill_(gone.view(parameter.shape), 0.0)
    return masked
