"""Torch optimizers from options, and their state as named tensors."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gossamer.training.options import Adadelta, Adam, AdamW, OptimizerOptions, Sgd


def make_optimizer(options: OptimizerOptions, network: nn.Module) -> Optimizer:
    """Return a fresh optimizer over the parameters that are trained; fused where torch has it."""
    trained = [p for p in network.parameters() if p.requires_grad]
    fused = all(p.is_floating_point() for p in trained)
    match options:
        case Sgd():
            return torch.optim.SGD(
                trained,
                lr=options.rate,
                momentum=options.momentum,
                nesterov=options.nesterov,
                weight_decay=options.weight_decay,
                fused=fused,
            )
        case Adam() | AdamW():
            kind: Callable[..., Optimizer] = (
                torch.optim.Adam if isinstance(options, Adam) else torch.optim.AdamW
            )
            return kind(
                trained,
                lr=options.rate,
                betas=options.betas,
                eps=options.epsilon,
                weight_decay=options.weight_decay,
                fused=fused,
            )
        case Adadelta():
            return torch.optim.Adadelta(
                trained,
                lr=options.rate,
                rho=options.rho,
                eps=options.epsilon,
                weight_decay=options.weight_decay,
            )


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def optimizer_tensors(optimizer: Optimizer, network: nn.Module) -> dict[str, Tensor]:
    """Return copies of the optimizer's state, as ``"parameter/slot"`` to tensor on the CPU."""
    return {
        f"{name}/{slot}": value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, parameter in network.named_parameters()
        for slot, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(
    optimizer: Optimizer, network: nn.Module, tensors: Mapping[str, Tensor]
) -> None:
    """Put a state back that `optimizer_tensors` took.

    Slots of a parameter's shape get its memory layout, so that a training that goes on from a
    file runs the same kernels, bit for bit, as one that was never interrupted.
    """
    parameters = dict(network.named_parameters())
    fused = any(group.get("fused") for group in optimizer.param_groups)
    for key, value in tensors.items():
        name, _, slot = key.rpartition("/")
        parameter = parameters[name]
        if value.shape == parameter.shape:
            restored = torch.empty_like(parameter, requires_grad=False)
            restored.copy_(value)
        else:
            # Counts of steps: fused optimizers have them beside the parameter.
            restored = value.clone().to(parameter.device if fused else value.device)
        optimizer.state[parameter][slot] = restored
