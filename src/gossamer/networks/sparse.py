"""Layers that store and train their non-zero weights only.

A layer keeps the values of its connections and where they stand. Parameters, their gradients,
optimizer states and the ``state_dict`` shrink with the connections. A `SparseLinear` of few of them
computes in compiled kernels (`gossamer.networks.sparse_product`), in time and memory that shrink,
too; other layers write the values into a weight of zeros at each pass, and compute what the dense
layer would.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from gossamer.core.errors import InputError
from gossamer.core.streams import stream, stream_seed
from gossamer.networks.sparse_product import runs_in_kernels, sparse_linear

Initialisation = Literal["he", "vector-glorot"]

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d

_CONVOLUTIONS: tuple[type[Convolution], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_CONVOLVE: dict[int, Callable[..., Tensor]] = {
    1: functional.conv1d,
    2: functional.conv2d,
    3: functional.conv3d,
}


class SparseLayer(nn.Module):
    """What `SparseLinear` and `SparseConv` share: a weight of which only some entries are stored.

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


class SparseLinear(SparseLayer):
    """A linear layer of sparse connections, that stores and trains its non-zeros only.

    Connections are drawn from all pairs of an input and a unit (an Erdos-Renyi random graph),
    unless they are given, and stay where they are.

    Parameters
    ----------
    in_features, out_features
        As for `torch.nn.Linear`.
    connections
        How many weights the layer has, from 0 to in_features x out_features; they are drawn
        uniformly without replacement. Mocanu et al. take epsilon x (in_features + out_features).
        Or which weights it has: a boolean tensor of the weight's shape.
    bias
        Whether each unit has a bias, which is dense and starts from zero.
    initialisation
        "he" (normal of variance 2 / fan-in, with the number of connections that a unit has got
        for its fan-in) or "vector-glorot" (uniform within plus or minus sqrt(3 / connections), the
        far too small weights of the published study `random-sparse-layers`).
    seed
        Seed of positions and weights; None draws one from torch's global generator, as torch's
        own layers do. Layers of the same shape and seed are the same.
    device, dtype
        As for `torch.nn.Linear`.

    Raises
    ------
    InputError
        If a size is below 1, `connections` does not suit the weight, or the initialisation is
        unknown.

    Notes
    -----
    Mocanu et al., "Scalable training of artificial neural networks with adaptive sparse
    connectivity inspired by network science", Nature Communications 9, 2018; He et al., "Delving
    deep into rectifiers", ICCV 2015.

    Examples
    --------
    >>> layer = SparseLinear(100, 50, connections=20 * (100 + 50), seed=0)
    >>> layer
    SparseLinear(in_features=100, out_features=50, connections=3000, bias=True, sparsity=0.4000)
    >>> [(name, tuple(value.shape)) for name, value in layer.state_dict().items()]
    [('values', (3000,)), ('bias', (50,)), ('positions', (3000,))]
    >>> layer(torch.zeros(2, 100)).shape, layer.weight.shape, int((layer.weight != 0).sum())
    (torch.Size([2, 50]), torch.Size([50, 100]), 3000)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        connections: int | Tensor,
        bias: bool = True,
        initialisation: Initialisation = "he",
        seed: int | None = None,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if min(in_features, out_features) < 1:
            raise InputError(
                f"SparseLinear got {in_features} inputs and {out_features} units, but expected at "
                "least 1 of each: give sizes of at least 1."
            )
        shape = (out_features, in_features)
        super().__init__(shape, connections, bias, initialisation, seed, device, dtype)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs, shape [..., out_features], for inputs [..., in_features]."""
        shape = self.weight_shape
        if runs_in_kernels(self.values, self.positions, inputs, shape.numel()):
            return sparse_linear(self.values, inputs, self.bias, self.positions, shape)
        return functional.linear(inputs, self.weight, self.bias)

    @property
    def in_features(self) -> int:
        """Numbers in one input."""
        return self.weight_shape[1]

    @property
    def out_features(self) -> int:
        """Units of the layer."""
        return self.weight_shape[0]

    def extra_repr(self) -> str:
        """Return what stands in the brackets of the layer's `repr`."""
        sizes = f"in_features={self.in_features}, out_features={self.out_features}"
        return f"{sizes}, {super().extra_repr()}"

    def dense(self) -> nn.Linear:
        """Return the `torch.nn.Linear` of the same function; it shares the bias."""
        layer = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        _take_parameters(layer, self)
        return layer


class SparseConv(SparseLayer):
    """A convolution of sparse connections, that stores and trains its non-zeros only.

    Parameters
    ----------
    like
        A `torch.nn.Conv1d`, `Conv2d` or `Conv3d`, whose sizes, stride, padding, padding mode,
        dilation, groups, device, dtype and presence of a bias are taken over, but not its weights.
    connections, initialisation, seed
        As for `SparseLinear`; a unit is an output channel.

    Raises
    ------
    InputError
        If `like` is no such convolution, `connections` does not suit its weight, or the
        initialisation is unknown.

    Examples
    --------
    >>> layer = SparseConv(nn.Conv2d(2, 4, 3, padding=1), connections=18, seed=0)
    >>> layer(torch.zeros(1, 2, 5, 5)).shape, layer.sparsity
    (torch.Size([1, 4, 5, 5]), 0.75)
    """

    def __init__(
        self,
        like: Convolution,
        connections: int | Tensor,
        initialisation: Initialisation = "he",
        seed: int | None = None,
    ) -> None:
        if type(like) not in _CONVOLUTIONS:
            raise InputError(
                f"SparseConv got a layer of type {type(like).__name__}, but expected a Conv1d, "
                "Conv2d or Conv3d of torch.nn: give one of these."
            )
        weight = like.weight
        shape = tuple(weight.shape)
        bias = like.bias is not None
        super().__init__(
            shape, connections, bias, initialisation, seed, weight.device, weight.dtype
        )
        self.in_channels = like.in_channels
        self.out_channels = like.out_channels
        self.kernel_size = like.kernel_size
        self.stride = like.stride
        self.padding = like.padding
        self.padding_mode = like.padding_mode
        self.dilation = like.dilation
        self.groups = like.groups

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs, of the shape that the dense convolution gives."""
        padding: str | tuple[int, ...] = self.padding
        if self.padding_mode != "zeros":
            inputs = functional.pad(inputs, self._margins(), mode=self.padding_mode)
            padding = (0,) * len(self.kernel_size)
        convolve = _CONVOLVE[len(self.kernel_size)]
        return convolve(
            inputs, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )

    def _margins(self) -> list[int]:
        """Return how much to pad before and after each axis, the last axis first."""
        if self.padding == "valid":
            return [0, 0] * len(self.kernel_size)
        if self.padding == "same":
            sizes = zip(self.kernel_size, self.dilation, strict=True)
            totals = [dilation * (kernel - 1) for kernel, dilation in sizes]
            pairs = [(total // 2, total - total // 2) for total in totals]
        else:
            pairs = [(int(margin), int(margin)) for margin in self.padding]
        return [margin for pair in reversed(pairs) for margin in pair]

    def extra_repr(self) -> str:
        """Return what stands in the brackets of the layer's `repr`."""
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding!r}, dilation={self.dilation}, "
            f"groups={self.groups}, padding_mode={self.padding_mode!r}"
        )
        return f"{text}, {super().extra_repr()}"

    def dense(self) -> Convolution:
        """Return the convolution of `torch.nn` of the same function; it shares the bias."""
        make: Callable[..., Convolution] = _CONVOLUTIONS[len(self.kernel_size) - 1]
        layer = make(
            self.in_channels,
            self.out_channels,
            self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            bias=False,
            padding_mode=self.padding_mode,
            device="meta",
        )
        _take_parameters(layer, self)
        return layer


def _take_parameters(layer: nn.Linear | Convolution, sparse: SparseLayer) -> None:
    """Give a dense layer, which has no values yet, the weight and the mode of its sparse twin."""
    trained = sparse.values.requires_grad
    layer.weight = nn.Parameter(sparse.weight.detach(), requires_grad=trained)
    layer.bias = sparse.bias
    layer.train(sparse.training)


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
