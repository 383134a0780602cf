"""Which layers can be cut, and cutting them."""

from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd
from torch.nn.utils import parametrize

from gossamer.compression.compacting.hooks import what_runs_beside
from gossamer.graph.calls import Call, Graph
from gossamer.graph.layers import (
    ByChannel,
    ChannelwiseLayer,
    Projection,
    WeightedLayer,
    groups_of,
)
from gossamer.networks.attention import NarrowMultiheadAttention
from gossamer.networks.normalisation import narrow, normalised_axis

_CUT = (
    nn.Linear,
    nn.Conv1d, nn.Conv2d, nn.Conv3d,
    nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.PReLU,
    nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d,
)  # fmt: skip


def whether_sound(graph: Graph, network: nn.Module) -> Callable[[Call], bool]:
    """Return what tells whether a call of a layer can be taken for what its class computes.

    It can where nothing else runs beside, and its parameters are its own: no other module holds
    them, and the forward does not read them by itself. A layer has to be cut, too.
    """
    held = Counter(id(p) for module in network.modules() for p in module._parameters.values())
    elsewhere = read_by_functions(graph)

    def sound(call: Call) -> bool:
        module = call.within if call.module is None else call.module
        if module is None or what_runs_beside(module):
            return False
        if isinstance(module, nn.MultiheadAttention):
            own_kind = type(module) in (nn.MultiheadAttention, NarrowMultiheadAttention)
            return own_kind and _has_its_own(module)
        if isinstance(module, nn.RNNBase):
            return type(module) in (nn.LSTM, nn.GRU, nn.RNN) and _has_its_own(module)
        if isinstance(module, nn.RNNCellBase | nn.Embedding | nn.EmbeddingBag):
            return _has_its_own(module)
        if not isinstance(module, WeightedLayer | ChannelwiseLayer):
            return True
        if isinstance(module, nn.LayerNorm | nn.RMSNorm):
            return normalised_axis(module) is None or _has_its_own(module)
        return _has_its_own(module) and (call.module is None or _is_plain(module))

    def _has_its_own(module: nn.Module) -> bool:
        own = all(held[id(p)] == 1 and id(p) not in elsewhere for p in module.parameters())
        real = all(p.is_floating_point() for p in module.parameters())
        return own and real and not any(map(parametrize.is_parametrized, module.modules()))

    return sound


def read_by_functions(graph: Graph) -> set[int]:
    """Return the ids of the parameters that a forward itself reads, and not a layer of PyTorch."""
    calls = {v.call for v in graph.values if v.call is not None and not v.call.nested}
    given = [value for call in calls for value in call.inputs]
    return {id(value.parameter) for value in (*given, *graph.outputs)}


def _is_plain(module: nn.Module) -> bool:
    """Tell whether a module has the forward of a class of PyTorch that can be cut."""
    return any(
        isinstance(module, kind)
        and type(module).forward is kind.forward
        and getattr(type(module), "_conv_forward", None) is getattr(kind, "_conv_forward", None)
        for kind in _CUT
    )


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


def linear_like(projection: Projection) -> nn.Linear:
    """Return a linear layer that computes what a projection does."""
    weight, bias = projection.weight.detach(), projection.bias
    linear = nn.Linear(1, 1, bias=bias is not None)
    linear.in_features, linear.out_features = weight.shape[1], weight.shape[0]
    linear.weight = nn.Parameter(weight.clone(), projection.parameter.requires_grad)
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach().clone(), bias.requires_grad)
    return linear


def put_projections(cut: Sequence[tuple[Projection, nn.Linear]]) -> None:
    """Give modules the parameters of the linear layers that their projections became, in place."""
    weights: dict[tuple[nn.Module, str], list[Tensor]] = {}
    biases: dict[tuple[nn.Module, str], list[Tensor]] = {}
    for projection, linear in cut:
        weight = linear.weight.T if projection.transposed else linear.weight
        weights.setdefault((projection.holder, projection.weight_name), []).append(weight.detach())
        if projection.bias_name is not None:
            own = biases.setdefault((projection.holder, projection.bias_name), [])
            own.append(linear.bias.detach())
    for found in (weights, biases):
        for (holder, name), pieces in found.items():
            whole = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
            before = holder._parameters[name]
            assert before is not None
            if whole.shape != before.shape or not torch.equal(whole, before):
                setattr(holder, name, parameter_like(before, whole.contiguous()))
    for holder, _ in weights:
        if isinstance(holder, nn.MultiheadAttention) and not has_usual_widths(holder):
            NarrowMultiheadAttention.of(holder)


def has_usual_widths(attention: nn.MultiheadAttention) -> bool:
    """Tell whether the heads of an attention make up its width, as PyTorch's own forward wants."""
    width = attention.embed_dim
    weight = attention.in_proj_weight
    inside = (attention.q_proj_weight,) if weight is None else (weight,)
    heads = attention.num_heads * attention.head_dim == width
    return (
        heads
        and all(one.shape[1] == width for one in inside)
        and (attention.out_proj.weight.shape == (width, width))
    )


def cut_vector(holder: nn.Module, name: str, dimension: int, kept: Tensor) -> None:
    """Keep some entries of a parameter or buffer along one dimension, in place."""
    before: Tensor = getattr(holder, name)
    if not kept.all():
        stay = kept.nonzero().flatten().to(before.device)
        values = before.detach().index_select(dimension, stay)
        own = name in holder._parameters
        setattr(holder, name, parameter_like(before, values) if own else values)


def cut_channels(layer: ChannelwiseLayer, kept: Tensor, shift: Tensor) -> None:
    """Keep some channels of a normalisation or a PReLU, in place.

    Parameters
    ----------
    layer
        The layer; a PReLU with one slope for all stays as it is. A normalisation over channels
        counts on those that go, which are zero.
    kept
        Which channels stay, bool.
    shift
        What the channels before it lack from now on, and is taken from the running mean, float64.
    """
    if shift.any():
        mean = layer.get_buffer("running_mean")
        layer.running_mean = (mean.cpu().double() - shift).to(mean)
    if isinstance(layer, nn.LayerNorm | nn.RMSNorm):
        if kept.all():
            return
        axis = normalised_axis(layer)
        assert axis is not None
        narrow(layer, int((~kept).sum()), axis)
    for name, value in [*layer.named_parameters(), *layer.named_buffers()]:
        if value.shape == kept.shape and len(kept) > 1:
            part = value.detach()[kept.to(value.device)]
            cut = parameter_like(value, part) if name in layer._parameters else part
            setattr(layer, name, cut)
    if isinstance(layer, nn.PReLU):
        layer.num_parameters = layer.weight.numel()
    elif isinstance(layer, ByChannel):
        layer.num_features = int(kept.sum())


def parameter_like(parameter: Tensor, values: Tensor) -> nn.Parameter:
    """Return a parameter with other values, and the dtype, device and order of the first."""
    values = values.to(parameter.detach())
    for order in (torch.channels_last, torch.channels_last_3d):
        if values.dim() == (4 if order is torch.channels_last else 5):
            ordered = parameter.is_contiguous(memory_format=order) and not parameter.is_contiguous()
            values = values.contiguous(memory_format=order) if ordered else values
    return nn.Parameter(values, requires_grad=parameter.requires_grad)
