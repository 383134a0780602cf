"""Effective sparsity: which weights lie on a path from an input or a constant to the output.

A weight that is not zero may still do nothing: no non-zero weight leads to its unit, or none
leads on from it. The weights that remain are found as a gradient, as in SynFlow, in a copy of the
network in which nothing can cancel, saturate or be chosen by accident:

- each non-zero parameter becomes a random positive number, small in a wide layer;
- inputs become random positive numbers;
- activations pass their input through (a sigmoid adds the constant that it is at zero), a
  max-pooling becomes the mean of its window, running statistics become neutral.

Where no path exists, the gradient is a sum of products with an exact zero. Where one exists,
it is not zero, but for coincidence.

Sources: Vysogorets and Kempe, "Connectivity Matters: Neural Network Pruning Through the Lens of
Effective Sparsity", JMLR 24 (2023); Tanaka et al., "Pruning neural networks without any data by
iteratively conserving synaptic flow", NeurIPS 2020.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _NormBase
from torch.overrides import TorchFunctionMode

from gossamer.core.errors import InputError
from gossamer.masks.storages import first_names, in_order_of
from gossamer.measures.functional.repeatable import check_answers_repeat
from gossamer.measures.functional.running import run, told

_ADVICE = "paths are found in float64, so let forward create its tensors in its input's dtype"


def effective_weights(network: nn.Module, example: Tensor) -> dict[str, Tensor]:
    """Return which weights are not zero and lie on a path to the output.

    A path starts at an input or at a constant (a bias or a normalisation's shift that is not
    zero, or an activation that is not zero at zero, such as the sigmoid) and leads over non-zero
    weights to an output.

    The network itself, its modes and torch's global generator are left as they are.

    Parameters
    ----------
    network
        The network. It must run in float64 on the processor, and its output must be a tensor
        through which gradients flow.
    example
        Input [examples, ...]. Of floating-point inputs only the shape matters; integers, such as
        the tokens of an embedding, are fed as they are, but every row of an embedding counts as
        looked up.

    Returns
    -------
    dict
        By name, each parameter of two or more dimensions as a boolean tensor of its shape, on its
        device; a shared parameter, or several in the same memory, is there once.

    Raises
    ------
    InputError
        If the network cannot be copied or fails in float64, if it gives different answers to the
        same inputs in evaluation mode, as one that drops out always does, or if no finite gradient
        reaches its parameters.

    Notes
    -----
    Paths are those for inputs of the example's shape: a weight of a convolution that only ever
    meets padding is not effective. A normalisation over several units (layer, group) connects
    each of them to all. What the network computes by other means than torch's own activations and
    poolings, or in scripted code, is taken as it is at one random point: a maximum by `torch.max`
    follows one of its arguments only, and a piecewise constant function such as `torch.sign` ends
    every path.

    Examples
    --------
    The second hidden unit leads nowhere, so the weight into it is not effective:

    >>> network = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
    >>> network[0].weight.data = torch.tensor([[1.0], [1.0]])
    >>> network[2].weight.data = torch.tensor([[1.0, 0.0]])
    >>> effective_weights(network, torch.zeros(1, 1))["0.weight"].tolist()
    [[True], [False]]
    """
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode(mode=False), torch.enable_grad(), torch.random.fork_rng(devices=[]):
        double = _copy(network)
        check_answers_repeat(
            double,
            _positive_input(example, torch.Generator().manual_seed(1)),
            "so nothing tells which of its weights reach the output",
            _ADVICE,
        )
        nonzero = {name: p.detach() != 0 for name, p in double.named_parameters()}
        _make_positive(double, generator)
        with _Connections():
            output = run(double, _positive_input(example, generator), _ADVICE)
        gradients = _gradients(double, output, generator)
    reached = {name: nonzero[name] & (gradients[name] != 0) for name in nonzero}
    return _by_weight(network, reached)


def _by_weight(network: nn.Module, reached: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Join what was found of parameters that lie in the same memory, under the first name."""
    parameters = {name: p for name, p in network.named_parameters() if p.dim() >= 2}
    joined: dict[str, Tensor] = {}
    for name, first in first_names(parameters).items():
        found = in_order_of(reached[name], parameters[name], parameters[first])
        joined[first] = joined[first] | found if first in joined else found
    return {name: found.to(parameters[name].device) for name, found in joined.items()}


def _copy(network: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(network).to("cpu", torch.float64).eval()
    except Exception as error:
        raise InputError(
            f"The network {type(network).__name__} cannot be copied ({told(error)}): make "
            "copy.deepcopy(network) work, for instance by torch.nn.utils.prune.remove."
        ) from error


def _positive(shape: torch.Size, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, dtype=torch.float64) + 0.5


def _positive_input(example: Tensor, generator: torch.Generator) -> Tensor:
    if not example.is_floating_point():
        return example.cpu()
    # Several, as a normalisation by the batch's own statistics is constant for one or two.
    return _positive(torch.Size((3, *example.shape[1:])), generator)


def _make_positive(network: nn.Module, generator: torch.Generator) -> None:
    """Replace non-zero parameters by positive ones and running statistics by neutral ones.

    The non-zeros of a row are divided by their number, so that activations neither grow nor
    vanish with depth.
    """
    for parameter in network.parameters():
        indicator = (parameter.detach() != 0).double()
        values = indicator * _positive(parameter.shape, generator)
        if parameter.dim() >= 2:
            rows = indicator.flatten(1).sum(1).clamp(min=1)
            values /= rows.view(-1, *[1] * (parameter.dim() - 1))
        parameter.data = values
        parameter.requires_grad_()
    for module in network.modules():
        if isinstance(module, _NormBase) and module.running_mean is not None:
            # A mean that is not zero is a constant that the layer emits without any input.
            module.running_mean = -(module.running_mean != 0).double()
            module.running_var = torch.ones_like(module.running_mean)


def _gradients(network: nn.Module, output: Any, generator: torch.Generator) -> dict[str, Tensor]:
    if not isinstance(output, Tensor) or not output.requires_grad:
        raise InputError(
            f"The network {type(network).__name__} gives an output of type "
            f"{type(output).__name__} that no gradient leads to, but a tensor that depends on the "
            "parameters was expected: return logits, not classes."
        )
    # A plain sum would not do: that of a softmax is constant.
    weighted = (output * _positive(output.shape, generator)).sum()
    parameters = dict(network.named_parameters())
    found = torch.autograd.grad(weighted, list(parameters.values()), materialize_grads=True)
    gradients = dict(zip(parameters, found, strict=True))
    for name, gradient in gradients.items():
        if not gradient.isfinite().all():
            raise InputError(
                f"The gradient of {name!r} is not finite where all weights are small and "
                "positive, so paths to the output cannot be told: check what the network computes "
                "from it."
            )
    return gradients


class _Connections(TorchFunctionMode):
    """Replaces functions of torch by ones that only show what is connected with what."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        replacement = _REPLACEMENTS.get(getattr(function, "__name__", ""))
        if replacement is None:
            return function(*args, **options)
        if "input" in options:
            args = (options.pop("input"), *args)
        if not any(isinstance(arg, Tensor) and arg.is_floating_point() for arg in args):
            return function(*args, **options)  # such as a clamp of indices
        return replacement(function, *args, **options)


def _pass_through(
    function: Callable[..., Tensor], values: Tensor, *args: Any, **kwargs: Any
) -> Tensor:
    """Return the input, plus one if the activation is not zero at zero."""
    with torch.no_grad():
        constant = function(torch.zeros_like(values), *args, **kwargs) != 0
    return values + constant


def _window_mean(
    function: Callable[..., Tensor],
    values: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """Return the mean of each window of a max-pooling, of any geometry."""
    options = (kernel_size, stride, padding, dilation, ceil_mode, return_indices)
    shape = function(values, *options).shape
    dimensions = int(function.__name__[-2])  # as in "max_pool2d"
    kernel, step, edge = (
        _each(option, dimensions) for option in (kernel_size, stride or kernel_size, padding)
    )
    # On the far side, room for a last window that ceil_mode may add; others are cropped.
    sides = [side for e, s in zip(edge[::-1], step[::-1], strict=True) for side in (e, e + s - 1)]
    padded = functional.pad(values.reshape(-1, 1, *values.shape[-dimensions:]), sides)
    window = torch.full((1, 1, *kernel), 1 / math.prod(kernel), dtype=values.dtype)
    convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[dimensions - 1]
    means = convolve(padded, window, stride=step, dilation=_each(dilation, dimensions))
    for dimension in range(-dimensions, 0):
        means = means.narrow(dimension, 0, shape[dimension])
    return means.reshape(shape)


def _each(option: int | Sequence[int], dimensions: int) -> tuple[int, ...]:
    if isinstance(option, int):
        return (option,) * dimensions
    return tuple(option) * (dimensions if len(option) == 1 else 1)


def _adaptive_mean(
    function: Callable[..., Tensor], values: Tensor, output_size: Any, **_: Any
) -> Tensor:
    average = getattr(functional, function.__name__.replace("max", "avg"))
    return cast("Tensor", average(values, output_size))


def _mean_over(
    _function: Callable[..., Tensor],
    values: Tensor,
    dim: int | tuple[int, ...] = (),
    keepdim: bool = False,
) -> Tensor:
    return values.mean(dim=dim, keepdim=keepdim)


def _sum_of_both(_function: Callable[..., Tensor], values: Tensor, other: Tensor) -> Tensor:
    return values + other


def _look_up_all(
    function: Callable[..., Tensor], values: Tensor, weight: Tensor, *args: Any, **kwargs: Any
) -> Tensor:
    """Return the rows that were looked up, plus the mean of all: any row may be looked up."""
    return function(values, weight, *args, **kwargs) + weight.mean(0)


_ACTIVATIONS = (  # noqa: SIM905
    "celu clamp clamp_max clamp_min clip elu gelu hardshrink hardsigmoid hardswish hardtanh "
    "leaky_relu log_sigmoid logsigmoid mish prelu relu relu6 rrelu selu sigmoid silu softplus "
    "softshrink softsign tanh tanhshrink threshold _threshold"
).split()

_REPLACEMENTS: dict[str, Callable[..., Tensor]] = {
    **dict.fromkeys(_ACTIVATIONS, _pass_through),
    **{f"max_pool{n}d": _window_mean for n in (1, 2, 3)},
    **{f"adaptive_max_pool{n}d": _adaptive_mean for n in (1, 2, 3)},
    "amax": _mean_over,
    "maximum": _sum_of_both,
    "minimum": _sum_of_both,
    "embedding": _look_up_all,
    "embedding_bag": _look_up_all,
}
"""By the function's name, which is the same in torch, torch.nn.functional and torch.Tensor."""
