"""What layers share that store and train their non-zero weights only."""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gossamer.core.errors import InputError
from gossamer.core.streams import stream, stream_seed

Initialisation = Literal["he", "vector-glorot"]


class SparseLayer(nn.Module):
    """A weight of which only some entries are stored.

    Parameters
    ----------
    weight_shape
        Shape of the weight, units first.
    connections, bias, initialisation, seed, device, dtype
        As for `SparseLinear`.

    Attributes
    ----------
    values : nn.Parameter
        The stored weights, shape [connections].
    positions : Tensor
        Their positions in the flattened weight, ascending, int64, shape [connections].
    bias : nn.Parameter or None
        Shape [units].

    Raises
    ------
    InputError
        If `connections` does not suit the weight, or the initialisation is unknown.
    """

    positions: Tensor
    bias: nn.Parameter | None

    def __init__(
        self,
        weight_shape: tuple[int, ...],
        connections: int | Tensor,
        bias: bool = True,
        initialisation: Initialisation = "he",
        seed: int | None = None,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.weight_shape = torch.Size(weight_shape)
        seed = _drawn_seed() if seed is None else seed
        positions = _positions(self.weight_shape, connections, seed)
        values = _initial_values(self.weight_shape, positions, initialisation, seed)
        like = torch.empty(0, device=device, dtype=dtype)
        self.values = nn.Parameter(values.to(like))
        self.register_buffer("positions", positions.to(like.device))
        units = self.weight_shape[0]
        self.register_parameter("bias", nn.Parameter(like.new_zeros(units)) if bias else None)

    @property
    def weight(self) -> Tensor:
        """The dense weight, made anew at each access and differentiable in `values`.

        Changing it in place changes nothing: change `values`.
        """
        zeros = self.values.new_zeros(self.weight_shape.numel())
        return zeros.index_copy(0, self.positions, self.values).view(self.weight_shape)

    @property
    def connections(self) -> int:
        """How many weights are stored."""
        return self.values.numel()

    @property
    def sparsity(self) -> float:
        """The fraction of the weight's entries that are not stored."""
        return 1 - self.connections / self.weight_shape.numel()

    def gradient_of_rows(self, inputs: Tensor, gradient: Tensor, begin: int, end: int) -> Tensor:
        """Return the gradient of rows of the dense weight, zeros of which it has none, too.

        Parameters
        ----------
        inputs, gradient
            What the layer was given, and the gradient of what it returned.
        begin, end
            Which units: from `begin` up to `end`.

        Returns
        -------
        Tensor
            Shape [end - begin, ...] of the weight's rows.
        """
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Return what stands in the brackets of the layer's `repr`."""
        return (
            f"connections={self.connections}, bias={self.bias is not None}, "
            f"sparsity={self.sparsity:.4f}"
        )

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Take the connections' values out of a dense weight, where the state has one instead.

        Refuse connections that are not this layer's in number, or that no weight can have, and
        a dense weight that has others.
        """
        dense = state_dict.get(f"{prefix}weight")
        if isinstance(dense, Tensor) and f"{prefix}values" not in state_dict:
            problem = self._dense_problem(dense)
            if problem:
                error_msgs.append(f"layer {prefix.rstrip('.') or type(self).__name__!r}: {problem}")
                return
            state_dict = {k: v for k, v in state_dict.items() if k != f"{prefix}weight"}
            state_dict[f"{prefix}values"] = dense.flatten()[self.positions.to(dense.device)]
            state_dict[f"{prefix}positions"] = self.positions
        found = [state_dict.get(f"{prefix}{name}") for name in ("values", "positions")]
        problem = self._problem(*found) if all(isinstance(t, Tensor) for t in found) else ""
        if problem:
            error_msgs.append(f"layer {prefix.rstrip('.') or type(self).__name__!r}: {problem}")
            return
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def _dense_problem(self, weight: Tensor) -> str:
        """Say why this layer cannot have a dense layer's weight; nothing is an empty string."""
        if weight.shape != self.weight_shape:
            return (
                f"the state has a dense weight of shape {tuple(weight.shape)}, but the layer's has "
                f"shape {tuple(self.weight_shape)}: load the state of a layer of the same sizes"
            )
        stored = weight.flatten()[self.positions.to(weight.device)].count_nonzero()
        others = int(weight.count_nonzero() - stored)
        if others:
            return (
                f"the state has a dense weight with {others} entries other than 0 where the layer "
                "has no connections: load it into a dense network and pack that with its mask"
            )
        return ""

    def _problem(self, values: Any, positions: Any) -> str:
        """Say what is wrong with loaded connections; nothing is an empty string."""
        if values.shape != self.values.shape:
            return (
                f"the state has {values.numel()} connections, but the layer has "
                f"{self.connections}: pack the network with the mask that the state was packed "
                "with"
            )
        size = self.weight_shape.numel()
        if positions.shape != values.shape or not _is_ascending_within(positions, size):
            return (
                f"the positions of the state are not {len(values)} ascending ones within the "
                f"weight of {size} entries: the state is damaged or of another layer"
            )
        return ""


def _drawn_seed() -> int:
    generator = torch.default_generator
    return int(torch.randint(2**63 - 1, (), device="cpu", generator=generator))


def _positions(shape: torch.Size, connections: int | Tensor, seed: int) -> Tensor:
    """Return the positions in the flattened weight, ascending, shape [connections]."""
    if isinstance(connections, Tensor):
        if connections.dtype != torch.bool or connections.shape != shape:
            raise InputError(
                f"'connections' is a tensor of {connections.dtype} of shape "
                f"{tuple(connections.shape)}, but the weight has shape {tuple(shape)}: give a "
                "boolean tensor of that shape, or a number of connections."
            )
        return connections.cpu().flatten().nonzero().flatten()
    size = shape.numel()
    if not _is_whole(connections) or not 0 <= connections <= size:
        raise InputError(
            f"'connections' is {connections!r}, but a whole number from 0 to {size} was expected, "
            f"as the weight has shape {tuple(shape)}: give fewer connections or a larger layer."
        )
    draw = stream(seed, "sparse positions").choice(size, connections, replace=False, shuffle=False)
    return torch.from_numpy(draw).sort().values


def _is_ascending_within(positions: Tensor, size: int) -> bool:
    inside = (positions >= 0) & (positions < size)
    return bool(inside.all()) and bool((positions.diff() > 0).all())


def _is_whole(number: Any) -> bool:
    return not isinstance(number, bool) and hasattr(number, "__index__")


def _initial_values(
    shape: torch.Size, positions: Tensor, initialisation: Initialisation, seed: int
) -> Tensor:
    """Draw the stored weights in float32, so that they are the same in every precision.

    "he": normal of variance 2 / fan-in, with the connections of the value's own unit for its
    fan-in. "vector-glorot": Glorot uniform for a vector, whose length is then both its fans, hence
    within plus or minus sqrt(6 / (2 connections)).
    """
    generator = torch.Generator().manual_seed(stream_seed(seed, "sparse values"))
    drawn = torch.empty(len(positions), dtype=torch.float32, device="cpu")
    if initialisation == "he":
        units = positions // math.prod(shape[1:])
        fan_in = units.bincount()[units]  # of units that have a connection: never zero
        return drawn.normal_(generator=generator) * (2 / fan_in).sqrt()
    if initialisation == "vector-glorot":
        limit = math.sqrt(3 / max(len(positions), 1))
        return drawn.uniform_(-limit, limit, generator=generator)
    raise InputError(
        f"The initialisation is {initialisation!r}, but 'he' or 'vector-glorot' was expected: give "
        "one of these."
    )
