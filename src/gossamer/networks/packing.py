"""A network whose masked layers store their non-zero weights only, and back."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gossamer.core.errors import InputError
from gossamer.core.streams import stream_seed
from gossamer.networks.sparse import Convolution, SparseConv, SparseLinear
from gossamer.networks.sparse_layer import Initialisation, SparseLayer
from gossamer.networks.sparse_operators import kernels_are_there

_PACKABLE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def pack(
    network: nn.Module,
    masks: Mapping[str, Tensor],
    initialisation: Literal["keep"] | Initialisation = "keep",
    seed: int = 0,
    optimizer: Optimizer | None = None,
) -> nn.Module:
    """Replace masked layers by layers that store and train their non-zero weights only.

    Every Linear and Conv1d, 2d and 3d whose weight has pruned entries becomes a `SparseLinear` or
    `SparseConv` of the same name, with the same bias; other modules stay. Optimizers made before
    train the replaced weights: give one, or make it afterwards. Entries of the mask with fewer than
    two dimensions, such as the biases of pruned units, are not packed: keep enforcing those.

    Parameters
    ----------
    network
        The network, changed in place.
    masks
        Parameter names to boolean tensors of the parameters' shapes, True where a weight is kept;
        a `Mask` is such a mapping.
    initialisation
        "keep" for the present weights; "he" or "vector-glorot" to draw new ones as `SparseLinear`
        does. Biases stay.
    seed
        Seed of new weights; each layer has a stream of its own, keyed by the weight's name.
    optimizer
        An optimizer of the network that is to go on with the stored weights, with what it keeps of
        them (momenta) if they are the present ones. No mask may be enforced on it any longer.

    Returns
    -------
    nn.Module
        The network; if it is itself a masked layer, the layer in its place.

    Raises
    ------
    InputError
        If the masks do not fit the network, the initialisation is unknown, a weight with pruned
        entries is shared, of another type of module, or of one with hooks, or the optimizer keeps
        what is not one number for each weight. The network is then as it was.

    Examples
    --------
    >>> network = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> kept = torch.tensor([[True, False, False], [False, True, True]])
    >>> pack(network, {"0.weight": kept})
    Sequential(
      (0): SparseLinear(in_features=3, out_features=2, connections=3, bias=True, sparsity=0.5000)
      (1): ReLU()
      (2): Linear(in_features=2, out_features=1, bias=True)
    )
    >>> list(network.state_dict())
    ['0.values', '0.bias', '0.positions', '2.weight', '2.bias']
    """
    for name, kept in masks.items():
        _check_mask(network, name, kept)
    pruned = [name for name, kept in masks.items() if kept.dim() > 1 and not bool(kept.all())]
    twins = {
        name: _twin(_layer(network, name), masks[name], initialisation, _seed(seed, name))
        for name in pruned
    }
    moves = [
        (_layer(network, name).weight, twin.values, _taking(twin)) for name, twin in twins.items()
    ]
    if optimizer is not None:
        _move(optimizer, moves, with_state=initialisation == "keep")
    for name, twin in twins.items():
        network = _replaced(network, _module_name(name), twin)
    return network


def unpack(network: nn.Module, optimizer: Optimizer | None = None) -> nn.Module:
    """Replace the layers that store their non-zeros only by dense ones of the same function.

    Parameters
    ----------
    network
        The network, changed in place; dense layers have the names, biases and weights of the
        sparse ones, with zeros where nothing was stored.
    optimizer
        An optimizer of the network that is to go on with the dense weights and what it keeps of
        them, zeros where nothing was stored.

    Returns
    -------
    nn.Module
        The network; if it is itself such a layer, the layer in its place.

    Raises
    ------
    InputError
        If the optimizer keeps what is not one number for each weight. The network is then as it
        was.

    Examples
    --------
    >>> network = nn.Sequential(SparseLinear(3, 2, connections=4))
    >>> unpack(network)
    Sequential(
      (0): Linear(in_features=3, out_features=2, bias=True)
    )
    >>> int((network[0].weight != 0).sum())
    4
    """
    modules = list(network.named_modules(remove_duplicate=False))
    dense = {m: m.dense() for _, m in modules if isinstance(m, (SparseLinear, SparseConv))}
    if optimizer is not None:
        moves = [(m.values, layer.weight, _putting(m)) for m, layer in dense.items()]
        _move(optimizer, moves, with_state=True)
    for name, module in modules:
        if module in dense:
            network = _replaced(network, name, dense[module])
    return network


def faster_packed(
    network: nn.Module, masks: Mapping[str, Tensor], examples: int
) -> dict[str, Tensor]:
    """Return the masks of those layers that train faster packed, at so many examples a batch.

    It depends on nothing that changes from one run to the next: a layer is faster from the sizes
    and densities on that were measured (`python -m benchmarks.sparse_training`), in float32 on the
    CPU where the kernels are there. None is where the network has sparse layers already.
    """
    if examples < LEAST_EXAMPLES or not kernels_are_there() or packed_names(network):
        return {}
    return {
        name: kept
        for name, kept in masks.items()
        if _module_name(name) and kept.dim() > 1 and _is_faster_packed(network, name, kept)
    }


LEAST_EXAMPLES = 32
LEAST_SIZES = {nn.Linear: 1 << 14, nn.Conv2d: 1 << 12}
MOST_DENSITIES = {nn.Linear: 0.2, nn.Conv2d: 0.1}


def _is_faster_packed(network: nn.Module, name: str, kept: Tensor) -> bool:
    try:
        layer = _layer(network, name)
    except InputError:
        return False
    kind, weight = type(layer), layer.weight
    return (
        kind in LEAST_SIZES
        and getattr(layer, "groups", 1) == 1
        and weight.device.type == "cpu"
        and weight.dtype is torch.float32
        and weight.numel() >= LEAST_SIZES[kind]
        and int(kept.sum()) <= MOST_DENSITIES[kind] * weight.numel()
    )


@contextmanager
def unpacked(
    network: nn.Module, masks: Mapping[str, Tensor], optimizer: Optimizer
) -> Iterator[None]:
    """Have the layers dense that were packed with these masks, and pack them again afterwards."""
    if masks:
        unpack(network, optimizer)
    try:
        yield
    finally:
        if masks:
            pack(network, masks, optimizer=optimizer)


def packed_names(network: nn.Module) -> tuple[str, ...]:
    """Return the names that the weights of the sparse layers have in a mask, in order.

    Examples
    --------
    >>> packed_names(nn.Sequential(nn.Linear(4, 3), SparseLinear(3, 2, connections=4)))
    ('1.weight',)
    """
    return tuple(
        f"{name}.weight" if name else "weight"
        for name, module in network.named_modules()
        if isinstance(module, SparseLayer)
    )


def _check_mask(network: nn.Module, name: str, kept: Tensor) -> None:
    parameters = dict(network.named_parameters(remove_duplicate=False))
    if name not in parameters:
        raise InputError(
            f"The mask has an entry {name!r}, but the network has no parameter of that name: pack "
            "the network that the mask was found on, and not one that is packed already, compiled "
            "or parametrized."
        )
    shape = parameters[name].shape
    if not isinstance(kept, Tensor) or kept.dtype != torch.bool or kept.shape != shape:
        got = f"{kept.dtype} {tuple(kept.shape)}" if isinstance(kept, Tensor) else repr(kept)
        raise InputError(
            f"The mask of {name!r} is {got}, but a boolean tensor of shape {tuple(shape)} was "
            "expected: give one entry for each weight, True where it is kept."
        )


def _layer(network: nn.Module, name: str) -> nn.Linear | Convolution:
    """Return the layer whose weight has that name, if it can be packed."""
    layer = network.get_submodule(_module_name(name))
    kind = type(layer)
    if kind not in _PACKABLE:
        raise InputError(
            f"The weight {name!r} has pruned entries and belongs to a {kind.__name__}, but only "
            f"{', '.join(packable.__name__ for packable in _PACKABLE)} of torch.nn can be packed: "
            "leave it out of the mask or keep it dense and enforce the mask."
        )
    assert isinstance(layer, _PACKABLE)
    named = network.named_parameters(remove_duplicate=False)
    shared = [other for other, weight in named if _same_memory(weight, layer.weight)]
    if len(shared) > 1:
        raise InputError(
            f"The weight {name!r} has pruned entries and is shared, as {', '.join(shared)}, but a "
            "packed layer has a weight of its own: leave it out of the mask or keep it dense and "
            "enforce the mask."
        )
    if any(vars(layer).get(hooks) for hooks in _HOOKS):
        raise InputError(
            f"The layer of the weight {name!r} has hooks, which its packed form would lack: remove "
            "them before packing."
        )
    return layer


def _same_memory(one: Tensor, other: Tensor) -> bool:
    """Tell whether two parameters are one, or begin at the same place in memory."""
    return one is other or one.data_ptr() == other.data_ptr() != 0


def _twin(
    layer: nn.Linear | Convolution,
    kept: Tensor,
    initialisation: Literal["keep"] | Initialisation,
    seed: int,
) -> SparseLayer:
    drawn: Initialisation = "he" if initialisation == "keep" else initialisation
    twin: SparseLayer
    if isinstance(layer, nn.Linear):
        twin = SparseLinear(
            layer.in_features,
            layer.out_features,
            connections=kept,
            bias=layer.bias is not None,
            initialisation=drawn,
            seed=seed,
            device=layer.weight.device,
            dtype=layer.weight.dtype,
        )
    else:
        twin = SparseConv(layer, kept, drawn, seed)
    if initialisation == "keep":
        twin.values.data.copy_(layer.weight.detach().flatten()[twin.positions])
    twin.values.requires_grad_(layer.weight.requires_grad)
    if layer.bias is not None:
        twin.bias = layer.get_parameter("bias")
    return twin.train(layer.training)


Move = tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]
"""A parameter, the one in its place, and how a tensor of the one's shape becomes the other's."""


def _taking(layer: SparseLayer) -> Callable[[Tensor], Tensor]:
    return lambda dense: dense.flatten()[layer.positions]


def _putting(layer: SparseLayer) -> Callable[[Tensor], Tensor]:
    def put(stored: Tensor) -> Tensor:
        zeros = stored.new_zeros(layer.weight_shape.numel())
        return zeros.index_copy(0, layer.positions, stored).view(layer.weight_shape)

    return put


def _move(optimizer: Optimizer, moves: Iterable[Move], with_state: bool) -> None:
    """Let an optimizer go on with other parameters, and what it kept of those before."""
    states = {}
    for old, new, convert in moves:
        kept = optimizer.state.get(old, {}) if with_state else {}
        for name, value in kept.items():
            if isinstance(value, Tensor) and value.dim() > 0 and value.shape != old.shape:
                raise InputError(
                    f"the optimizer {type(optimizer).__name__} keeps {name!r} of shape "
                    f"{tuple(value.shape)} for a weight of shape {tuple(old.shape)}, but one "
                    "number for each weight was expected: make a new optimizer afterwards."
                )
        states[old] = (
            new,
            {
                name: convert(value) if isinstance(value, Tensor) and value.dim() > 0 else value
                for name, value in kept.items()
            },
        )
    for group in optimizer.param_groups:
        group["params"] = [states[p][0] if p in states else p for p in group["params"]]
    for old, (new, state) in states.items():
        if optimizer.state.pop(old, None) is not None and state:
            optimizer.state[new] = state


def _replaced(network: nn.Module, name: str, module: nn.Module) -> nn.Module:
    """Put a module into the place of that name, and return the network, which may be the place."""
    if not name:
        return module
    network.set_submodule(name, module)
    return network


def _seed(seed: int, name: str) -> int:
    return stream_seed(seed, "pack", name)


def _module_name(name: str) -> str:
    return name.rpartition(".")[0]
