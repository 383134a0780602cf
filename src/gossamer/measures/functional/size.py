"""How large a network is."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from gossamer.core.errors import InputError
from gossamer.masks.storages import distinct
from gossamer.masks.values import nonzero
from gossamer.records.record import Layer


@dataclass(frozen=True)
class Size:
    """Parameters of a network, each shared one counted once; buffers do not count.

    Shared are also parameters that lie in the same memory, such as one that is the transpose of
    another.
    """

    parameters: int
    nonzero: int
    prunable: int
    prunable_nonzero: int
    bytes_dense: int
    """All parameters in their own dtype."""
    bytes_compressed: int
    """Each prunable weight as a mask of one bit a weight, rounded up to whole bytes, and its
    non-zeros in its own dtype; the other parameters as they are."""

    @property
    def sparsity(self) -> float:
        """Fraction of zeros over the prunable weights; 0 if there are none."""
        return 1 - self.prunable_nonzero / self.prunable if self.prunable else 0.0

    @property
    def total_sparsity(self) -> float:
        """Fraction of zeros over all parameters; 0 if there are none."""
        return 1 - self.nonzero / self.parameters if self.parameters else 0.0


def size(network: nn.Module, prunable: Collection[str]) -> Size:
    """Return how many parameters a network has and how many bytes they take.

    Parameters
    ----------
    network
        The network; the zeros that are there are counted.
    prunable
        Names of the parameters that pruning may touch.

    Raises
    ------
    InputError
        If a prunable name is not one of the network's parameters.

    Examples
    --------
    >>> import torch
    >>> layer = nn.Linear(10, 1)
    >>> layer.weight.data = torch.tensor([[0.0] * 8 + [1.0] * 2])
    >>> counted = size(layer, ["weight"])
    >>> counted.prunable, counted.prunable_nonzero, counted.sparsity
    (10, 2, 0.8)
    >>> counted.bytes_dense, counted.bytes_compressed  # 4 * 11, and 2 + 4 * 2 + 4
    (44, 14)
    """
    parameters = _parameters(network, prunable)
    counts = {name: _nonzero(tensor) for name, tensor in parameters.items()}
    total_bytes = {name: p.numel() * p.element_size() for name, p in parameters.items()}
    saved = sum(
        total_bytes[name]
        - (parameters[name].numel() + 7) // 8
        - counts[name] * parameters[name].element_size()
        for name in set(prunable)
    )
    return Size(
        parameters=sum(p.numel() for p in parameters.values()),
        nonzero=sum(counts.values()),
        prunable=sum(parameters[name].numel() for name in set(prunable)),
        prunable_nonzero=sum(counts[name] for name in set(prunable)),
        bytes_dense=sum(total_bytes.values()),
        bytes_compressed=sum(total_bytes.values()) - saved,
    )


def count_layers(
    network: nn.Module, prunable: Collection[str], effective: Mapping[str, Tensor] | None
) -> tuple[Layer, ...]:
    """Return the counts of every parameter of two or more dimensions, in the network's order.

    Parameters
    ----------
    network
        The network; the zeros that are there are counted.
    prunable
        Names of the parameters that pruning may touch.
    effective
        By name, which weights lie on a path from the input to the output, in the weight's shape:
        see `gossamer.measures.functional.effective_weights`.

    Raises
    ------
    InputError
        If a prunable name is not one of the network's parameters, or `effective` lacks one of the
        weights or has it in another shape.

    Examples
    --------
    >>> import torch
    >>> layer = nn.Linear(3, 1)
    >>> layer.weight.data = torch.tensor([[0.0, 1.0, 2.0]])
    >>> (counted,) = count_layers(layer, ["weight"], {"weight": layer.weight > 1})
    >>> counted.weights, counted.nonzero, counted.effective
    (3, 2, 1)
    """
    weights = {
        name: parameter
        for name, parameter in _parameters(network, prunable).items()
        if parameter.dim() >= 2
    }
    for name, weight in weights.items():
        if effective is None:
            break
        if name not in effective or effective[name].shape != weight.shape:
            got = f"has shape {tuple(effective[name].shape)}" if name in effective else "is missing"
            raise InputError(
                f"The effective weights of {name!r} were expected in the shape "
                f"{tuple(weight.shape)}, but this entry {got}: pass what effective_weights "
                "returns for the same network."
            )
    return tuple(
        Layer(
            name=name,
            shape=tuple(weight.shape),
            prunable=name in prunable,
            weights=weight.numel(),
            nonzero=_nonzero(weight),
            effective=None if effective is None else _nonzero(effective[name]),
        )
        for name, weight in weights.items()
    )


def _parameters(network: nn.Module, prunable: Collection[str]) -> dict[str, Tensor]:
    parameters: dict[str, Tensor] = distinct(dict(network.named_parameters()))
    for name in prunable:
        if name not in parameters:
            raise InputError(
                f"The prunable parameter {name!r} is not in the network: give names that "
                "named_parameters() yields; a shared parameter has the first of its names."
            )
    return parameters


def _nonzero(tensor: Tensor) -> int:
    return int(nonzero(tensor).count_nonzero())
