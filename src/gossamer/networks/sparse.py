"""Layers that store and train their non-zero weights only.

A layer keeps the values of its connections and where they stand. Parameters, their gradients,
optimizer states and the ``state_dict`` shrink with the connections. A layer of few of them computes
in compiled kernels (`gossamer.networks.sparse_operators`), in time and memory that shrink, too;
other layers write the values into a weight of zeros at each pass, and compute what the dense layer
would.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional, grad

from gossamer.core.errors import InputError
from gossamer.networks.sparse_convolution import convolves_in_kernels, sparse_conv2d
from gossamer.networks.sparse_layer import Initialisation, SparseLayer
from gossamer.networks.sparse_product import multiplies_in_kernels, sparse_linear

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d

_CONVOLUTIONS: tuple[type[Convolution], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_CONVOLVE: dict[int, Callable[..., Tensor]] = {
    1: functional.conv1d,
    2: functional.conv2d,
    3: functional.conv3d,
}
_WEIGHT_GRADIENTS: dict[int, Callable[..., Tensor]] = {
    1: grad.conv1d_weight,
    2: grad.conv2d_weight,
    3: grad.conv3d_weight,
}


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
        if multiplies_in_kernels(self.values, self.positions, inputs, shape):
            return sparse_linear(self.values, inputs, self.bias, self.positions, shape)
        return functional.linear(inputs, self.weight, self.bias)

    def gradient_of_rows(self, inputs: Tensor, gradient: Tensor, begin: int, end: int) -> Tensor:
        """Return the gradient of rows of the dense weight; see `SparseLayer`."""
        inputs, gradient = inputs.to(self.values.dtype), gradient.to(self.values.dtype)
        return gradient.flatten(0, -2)[:, begin:end].t() @ inputs.flatten(0, -2)

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
    device, dtype
        Instead of those of `like`.

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
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if type(like) not in _CONVOLUTIONS:
            raise InputError(
                f"SparseConv got a layer of type {type(like).__name__}, but expected a Conv1d, "
                "Conv2d or Conv3d of torch.nn: give one of these."
            )
        weight = like.weight
        shape = tuple(weight.shape)
        bias = like.bias is not None
        device = weight.device if device is None else device
        dtype = weight.dtype if dtype is None else dtype
        super().__init__(shape, connections, bias, initialisation, seed, device, dtype)
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
        margins = self._margins()
        if self.padding_mode != "zeros":
            inputs = functional.pad(inputs, margins, mode=self.padding_mode)
            padding = (0,) * len(self.kernel_size)
            margins = [0, 0] * len(self.kernel_size)
        values, positions = self.values, self.positions
        if len(self.kernel_size) == 2:
            geometry = self._geometry(margins)
            if convolves_in_kernels(values, positions, inputs, geometry):
                return sparse_conv2d(values, inputs, self.bias, positions, geometry)
        convolve = _CONVOLVE[len(self.kernel_size)]
        return convolve(
            inputs, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )

    def gradient_of_rows(self, inputs: Tensor, gradient: Tensor, begin: int, end: int) -> Tensor:
        """Return the gradient of rows of the dense weight; see `SparseLayer`."""
        axes = len(self.kernel_size)
        if inputs.dim() == axes + 1:
            inputs, gradient = inputs[None], gradient[None]
        inputs, gradient = inputs.to(self.values.dtype), gradient.to(self.values.dtype)
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        inputs = functional.pad(inputs, self._margins(), mode=mode)
        units, channels = self.out_channels // self.groups, self.in_channels // self.groups
        differentiate: Callable[..., Tensor] = _WEIGHT_GRADIENTS[axes]
        parts = []
        for group in range(begin // units, -(-end // units)):
            first, last = max(begin, group * units), min(end, (group + 1) * units)
            parts.append(
                differentiate(
                    inputs[:, group * channels : (group + 1) * channels],
                    (last - first, *self.weight_shape[1:]),
                    gradient[:, first:last],
                    self.stride,
                    0,
                    self.dilation,
                )
            )
        return torch.cat(parts)

    def _geometry(self, margins: list[int]) -> tuple[int, ...]:
        """Return what `sparse_conv2d` must know of the layer."""
        left, right, top, bottom = margins
        (height, width), (down, along) = self.kernel_size, self.stride
        rows, columns = self.dilation
        return (
            *(self.out_channels, self.in_channels // self.groups, self.groups),
            *(height, down, top, bottom, rows),
            *(width, along, left, right, columns),
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


class SparseConv2d(SparseConv):
    """A convolution of images of sparse connections, that stores and trains its non-zeros only.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode
        As for `torch.nn.Conv2d`.
    connections, initialisation, seed
        As for `SparseLinear`; a unit is an output channel.
    device, dtype
        As for `torch.nn.Conv2d`.

    Raises
    ------
    InputError
        If there is no such convolution, `connections` does not suit its weight, or the
        initialisation is unknown.

    Examples
    --------
    >>> layer = SparseConv2d(64, 128, 3, padding=1, connections=7_373, seed=0)
    >>> layer(torch.zeros(1, 64, 16, 16)).shape, round(layer.sparsity, 3)
    (torch.Size([1, 128, 16, 16]), 0.9)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: str | int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros",
        *,
        connections: int | Tensor,
        initialisation: Initialisation = "he",
        seed: int | None = None,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        try:
            like = nn.Conv2d(
                in_channels,
                out_channels,
                kernel_size,
                stride,
                padding,
                dilation,
                groups,
                bias,
                padding_mode,
                device="meta",
            )
        except (ValueError, RuntimeError, ZeroDivisionError) as problem:
            raise InputError(
                f"SparseConv2d got what torch.nn.Conv2d refuses, {problem}: give sizes of at least "
                "1, and numbers of channels that the groups divide."
            ) from problem
        if device is None:
            device = torch.get_default_device()
        if dtype is None:
            dtype = torch.get_default_dtype()
        super().__init__(like, connections, initialisation, seed, device, dtype)


def _take_parameters(layer: nn.Linear | Convolution, sparse: SparseLayer) -> None:
    """Give a dense layer, which has no values yet, the weight and the mode of its sparse twin."""
    trained = sparse.values.requires_grad
    layer.weight = nn.Parameter(sparse.weight.detach(), requires_grad=trained)
    layer.bias = sparse.bias
    layer.train(sparse.training)
