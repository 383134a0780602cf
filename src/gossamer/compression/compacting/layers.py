"""Linear layers and convolutions as compaction sees them: what connects to what, and cutting.

Matrices here are [outputs, inputs], also for grouped and transposed convolutions, whose weights
PyTorch stores otherwise.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils import parametrize

from gossamer.compression.compacting.hooks import what_runs_beside

WeightedLayer = nn.Linear | _ConvNd
"""A layer whose units can be removed."""

ChannelwiseLayer = _BatchNorm | nn.PReLU
"""A layer that holds some numbers for each channel and keeps channels apart."""

_WEIGHTED = (
    nn.Linear,
    nn.Conv1d, nn.Conv2d, nn.Conv3d,
    nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip
_CHANNELWISE = (
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.PReLU,
)  # fmt: skip


def is_weighted(module: nn.Module) -> bool:
    """Tell whether a module computes what one of PyTorch's linear layers or convolutions does."""
    return _behaves_like(module, _WEIGHTED)


def is_channelwise(module: nn.Module) -> bool:
    """Tell whether a module is a batch normalisation or a PReLU that can be cut."""
    return _behaves_like(module, _CHANNELWISE)


def _behaves_like(module: nn.Module, kinds: Iterable[type[nn.Module]]) -> bool:
    """Tell whether a module has the forward of one of these classes and parameters of its own."""
    plain = not parametrize.is_parametrized(module) and not what_runs_beside(module)
    return plain and any(
        isinstance(module, kind)
        and type(module).forward is kind.forward
        and getattr(type(module), "_conv_forward", None) is getattr(kind, "_conv_forward", None)
        for kind in kinds
    )


def spatial_dimensions(layer: WeightedLayer) -> int:
    """Return how many dimensions stand behind that of the inputs; 0 for a linear layer."""
    return 0 if isinstance(layer, nn.Linear) else len(layer.kernel_size)


def groups_of(layer: WeightedLayer) -> int:
    """Return into how many groups inputs and outputs fall."""
    return 1 if isinstance(layer, nn.Linear) else layer.groups


def connections(layer: WeightedLayer) -> Tensor:
    """Return which weights, at any position of the kernel, are not zero: bool [outputs, inputs]."""
    nonzero = (layer.weight.detach() != 0).cpu()
    groups = groups_of(layer)
    blocks = _blocks(layer, nonzero.flatten(2).any(2) if nonzero.dim() > 2 else nonzero)
    if groups == 1:
        return blocks[0]
    connected = torch.zeros(groups, blocks.shape[1], groups, blocks.shape[2], dtype=torch.bool)
    connected[torch.arange(groups), :, torch.arange(groups), :] = blocks
    return connected.flatten(2).flatten(0, 1)


def _blocks(layer: WeightedLayer, matrix: Tensor) -> Tensor:
    """Turn a matrix of the weight's first two dimensions into [groups, outputs, inputs] of each."""
    blocks = matrix.reshape(groups_of(layer), -1, matrix.shape[1])
    return blocks.transpose(1, 2) if isinstance(layer, _ConvTransposeNd) else blocks


def foldable(layer: WeightedLayer, constants: Tensor) -> Tensor:
    """Return the constants of those inputs that act on a layer as one bias does, NaN for others.

    Where zeros are padded around a channel, it is not constant at its border, unless it is 0.
    """
    if not _sees_border(layer):
        return constants
    return constants.masked_fill(constants != 0, torch.nan)


def _sees_border(layer: WeightedLayer) -> bool:
    if isinstance(layer, nn.Linear):
        return False
    if isinstance(layer, _ConvTransposeNd):
        return True
    if layer.padding_mode != "zeros" or layer.padding == "valid":
        return False
    if layer.padding == "same":
        return any(size > 1 for size in layer.kernel_size)
    return any(layer.padding)


def contribution(layer: WeightedLayer, constants: Tensor) -> Tensor:
    """Return what constant inputs add to each output, float64 [outputs].

    Parameters
    ----------
    layer
        The layer.
    constants
        One number for each input, finite, of which `foldable` leaves alone what is not 0.
    """
    if not constants.any():
        return torch.zeros(outputs_of(layer), dtype=torch.float64)
    weight = layer.weight.detach().cpu().double()
    blocks = _blocks(layer, weight.flatten(2).sum(2) if weight.dim() > 2 else weight)
    return torch.einsum("goi,gi->go", blocks, constants.view(len(blocks), -1)).flatten()


def outputs_of(layer: WeightedLayer) -> int:
    """Return how many units a layer has."""
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def inputs_of(layer: WeightedLayer) -> int:
    """Return how many inputs a layer reads."""
    return layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels


def silence(layer: WeightedLayer, inputs: Tensor, outputs: Tensor) -> None:
    """Set to zero what a layer reads from some inputs, and what some outputs read, in place.

    Parameters
    ----------
    layer
        The layer; the biases of these outputs become zero, too.
    inputs, outputs
        Which ones, bool.
    """
    weight = layer.weight.detach()
    inputs, outputs = inputs.to(weight.device), outputs.to(weight.device)
    rows, columns = (inputs, outputs) if isinstance(layer, _ConvTransposeNd) else (outputs, inputs)
    weight[rows] = 0
    groups = groups_of(layer)
    for part, unread in zip(weight.chunk(groups), columns.chunk(groups), strict=True):
        part[:, unread] = 0
    if layer.bias is not None:
        layer.bias.detach()[outputs] = 0


def cut_layer(layer: WeightedLayer, inputs: Tensor, outputs: Tensor, shift: Tensor) -> None:
    """Keep some inputs and outputs of a layer, in place.

    Parameters
    ----------
    layer
        The layer.
    inputs, outputs
        Which stay, bool; of a grouped convolution the same number in each group that stays.
    shift
        What is added to the bias of each output that there was, float64.
    """
    bias = layer.bias
    if shift[outputs].any() and bias is None:
        # Nothing else can carry the constant; it trains as a bias, as its weights would have.
        bias = nn.Parameter(
            layer.weight.new_zeros(len(outputs)), requires_grad=layer.weight.requires_grad
        )
    if bias is not None:
        layer.bias = parameter_like(bias, (bias.detach().cpu().double() + shift)[outputs])
    if not (inputs.all() and outputs.all()):
        layer.weight = parameter_like(layer.weight, _cut_weight(layer, inputs, outputs))
    kept_in, kept_out = int(inputs.sum()), int(outputs.sum())
    if isinstance(layer, nn.Linear):
        layer.in_features, layer.out_features = kept_in, kept_out
        return
    layer.groups = int(inputs.view(layer.groups, -1).any(1).sum())
    layer.in_channels, layer.out_channels = kept_in, kept_out


def _cut_weight(layer: WeightedLayer, inputs: Tensor, outputs: Tensor) -> Tensor:
    weight, groups = layer.weight.detach(), groups_of(layer)
    transposed = isinstance(layer, _ConvTransposeNd)
    rows, columns = (inputs, outputs) if transposed else (outputs, inputs)
    # Columns are numbered within the group of each row.
    in_group = [part.nonzero().flatten() for part in columns.view(groups, -1)]
    row_numbers = rows.nonzero().flatten()
    row_groups = (row_numbers // (len(rows) // groups)).tolist()
    column_numbers = torch.stack([in_group[group] for group in row_groups])
    device = weight.device
    return weight[row_numbers[:, None].to(device), column_numbers.to(device)]


def cut_channels(layer: ChannelwiseLayer, kept: Tensor, shift: Tensor) -> None:
    """Keep some channels of a normalisation or a PReLU, in place.

    Parameters
    ----------
    layer
        The layer; a PReLU with one slope for all stays as it is.
    kept
        Which channels stay, bool.
    shift
        What the channels before it lack from now on, and is taken from the running mean, float64.
    """
    if shift.any():
        mean = layer.get_buffer("running_mean")
        layer.running_mean = (mean.cpu().double() - shift).to(mean)
    for name, value in [*layer.named_parameters(), *layer.named_buffers()]:
        if value.shape == kept.shape and len(kept) > 1:
            part = value.detach()[kept.to(value.device)]
            cut = parameter_like(value, part) if name in layer._parameters else part
            setattr(layer, name, cut)
    if isinstance(layer, nn.PReLU):
        layer.num_parameters = layer.weight.numel()
    else:
        layer.num_features = int(kept.sum())


def parameter_like(parameter: Tensor, values: Tensor) -> nn.Parameter:
    """Return a parameter with other values, and the dtype, device and order of the first."""
    values = values.to(parameter.detach())
    for order in (torch.channels_last, torch.channels_last_3d):
        if values.dim() == (4 if order is torch.channels_last else 5):
            ordered = parameter.is_contiguous(memory_format=order) and not parameter.is_contiguous()
            values = values.contiguous(memory_format=order) if ordered else values
    return nn.Parameter(values, requires_grad=parameter.requires_grad)
