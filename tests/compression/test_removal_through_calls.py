"""Units that go through repeats, shuffles, gates of one channel, buffers and first states."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gossamer import compact, prune
from gossamer.compression.compaction import compaction_report
from gossamer.shrinking.loading import load_shrunk, save_shrunk

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
STEPS = torch.randn(2, 7, 6, generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    """Layers, and a forward that is given them."""

    def __init__(self, forward: Callable[[Any, Tensor], Tensor], **held: Any) -> None:
        super().__init__()
        self.way, self.hidden = forward, 8
        for name, one in held.items():
            if isinstance(one, Tensor):
                self.register_buffer(name, one)
            else:
                setattr(self, name, one)

    def forward(self, x: Tensor) -> Tensor:
        return self.way(self, x)


def conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def enlarged(n: Any, x: Tensor) -> Tensor:
    deep = n.second(functional.max_pool2d(n.first(x), 2)).repeat_interleave(2, 2).repeat(1, 1, 1, 2)
    return n.head((n.first(x) + deep).mean((2, 3)))  # type: ignore[no-any-return]


def doubled(n: Any, x: Tensor) -> Tensor:
    seen = n.first(x).repeat_interleave(2, dim=1).repeat(1, 2, 1, 1)
    return n.head(seen.mean((2, 3)))  # type: ignore[no-any-return]


def stacked(n: Any, x: Tensor) -> Tensor:
    several = torch.stack([n.first(x), n.second(x).expand_as(n.first(x))], dim=-1)
    return n.head(several.tanh().sum(-1).mean((2, 3)))  # type: ignore[no-any-return]


def shuffled(n: Any, x: Tensor) -> Tensor:
    fine = n.second(functional.pixel_shuffle(n.first(x), 2).tanh())
    mixed = functional.channel_shuffle(functional.pixel_unshuffle(fine, 2), 2)
    return n.head(mixed.mean((2, 3)))  # type: ignore[no-any-return]


def gated(n: Any, x: Tensor) -> Tensor:
    seen = n.first(x)
    return n.head((seen * n.gate(seen).sigmoid()).mean((2, 3)))  # type: ignore[no-any-return]


def scaled(n: Any, x: Tensor) -> Tensor:
    seen = n.first(x) / n.spread[:, None, None] * (2 * n.marks)
    slopes = n.spread[:, None, None]
    seen = seen + (slopes + 1e-9).reciprocal() * torch.sin(slopes * seen).pow(2)
    return n.head(functional.relu(seen).mean((2, 3)))  # type: ignore[no-any-return]


def moved(n: Any, x: Tensor) -> Tensor:
    seen = n.first(x).roll((1, -2), (2, 3)).flip(2, 3).flip([2])
    summed = seen.cumsum(-1) / 8 + seen.tanh().cumprod(2)
    return n.head(summed.mean((2, 3)))  # type: ignore[no-any-return]


def ranked(n: Any, x: Tensor) -> Tensor:
    seen = n.first(x).flatten(2)
    best = seen.topk(3, dim=2)[0].mean(2) + seen.sort()[0][..., -1] + seen.kthvalue(2)[0]
    return n.head(best + seen.median(2).values)  # type: ignore[no-any-return]


class Padded(nn.Conv2d):
    """A convolution that pads by itself, as causal ones and those of TensorFlow do."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(functional.pad(x, (2, 0, 1, 1)))


class Called(nn.Conv2d):
    """A convolution with an activation of its own."""

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight, self.bias
        found = functional.conv2d(x, weight, bias, self.stride, 1, self.dilation, self.groups)
        return functional.relu(found)


def of_own_kinds(n: Any, x: Tensor) -> Tensor:
    return n.head(n.third(n.second(n.first(x))).mean((2, 3)))  # type: ignore[no-any-return]


IN_IMAGES: dict[str, tuple[Callable[[], Net], Mapping[str, int]]] = {
    "ranked": (lambda: Net(ranked, first=conv(3, 8), head=nn.Linear(8, 2)), {"first": 4}),
    "enlarged": (
        lambda: Net(enlarged, first=conv(3, 8), second=conv(8, 8), head=nn.Linear(8, 2)),
        {"first": 4, "second": 4},
    ),
    "doubled": (lambda: Net(doubled, first=conv(3, 8), head=nn.Linear(32, 2)), {"first": 4}),
    "stacked": (
        lambda: Net(stacked, first=conv(3, 8), second=conv(3, 8), head=nn.Linear(8, 2)),
        {"first": 4, "second": 4},
    ),
    "shuffled": (
        lambda: Net(shuffled, first=conv(3, 16), second=conv(4, 4), head=nn.Linear(16, 2)),
        {"first": 8, "second": 2},
    ),
    "gated": (
        lambda: Net(gated, first=conv(3, 8), gate=conv(8, 1), head=nn.Linear(8, 2)),
        {"first": 4, "gate": 1},
    ),
    "of own kinds": (
        lambda: Net(
            of_own_kinds, first=Padded(3, 8, 3), second=Called(8, 8, 3, groups=8),
            third=Padded(8, 6, 3), head=nn.Linear(6, 2),
        ),
        {"first": 4, "second": 4, "third": 3},
    ),
    "moved": (lambda: Net(moved, first=conv(3, 8), head=nn.Linear(8, 2)), {"first": 4}),
    "scaled": (
        lambda: Net(
            scaled, first=conv(3, 8), head=nn.Linear(8, 2), spread=1 + torch.rand(8),
            marks=torch.rand(1, 8, 1, 1),
        ),
        {"first": 4},
    ),
}  # fmt: skip


def from_zeros(n: Any, x: Tensor) -> Tensor:
    start = torch.zeros(2, x.size(0), n.hidden, dtype=x.dtype).to(x.device)
    again = x.new_zeros((2, len(x), n.hidden))
    return n.head(n.first(x, (start, again))[0][:, -1])  # type: ignore[no-any-return]


def from_another(n: Any, x: Tensor) -> Tensor:
    return n.head(n.second(x.flip(1), n.first(x)[1])[0])  # type: ignore[no-any-return]


def from_a_layer(n: Any, x: Tensor) -> Tensor:
    return n.head(n.second(x, n.start(x[:, 0]).tanh()[None])[0])  # type: ignore[no-any-return]


def from_learned(n: Any, x: Tensor) -> Tensor:
    start, cell = n.starts[0][:, None].expand(-1, len(x), -1), n.starts[1].unsqueeze(1)
    return n.head(n.first(x, (start, cell.repeat(1, len(x), 1)))[0][:, -1])  # type: ignore[no-any-return]


def of_fixed_size(n: Any, x: Tensor) -> Tensor:
    return n.head(n.first(x, (x.new_zeros(2, len(x), 8),) * 2)[0])  # type: ignore[no-any-return]


def lstm() -> nn.LSTM:
    return nn.LSTM(6, 8, 2, batch_first=True)


IN_TIME: dict[str, Callable[[], Net]] = {
    "zeros": lambda: Net(from_zeros, first=lstm(), head=nn.Linear(8, 2)),
    "another": lambda: Net(from_another, first=lstm(), second=lstm(), head=nn.Linear(8, 2)),
    "learned": lambda: Net(
        from_learned, first=lstm(), head=nn.Linear(8, 2),
        starts=nn.ParameterList([torch.randn(2, 8), torch.randn(2, 8)]),
    ),
    "a layer": lambda: Net(
        from_a_layer, start=nn.Linear(6, 8), second=nn.GRU(6, 8, batch_first=True),
        head=nn.Linear(8, 2),
    ),
}  # fmt: skip


def pruned(make: Callable[[], Net], example: Tensor) -> Net:
    torch.manual_seed(0)
    network = make().eval()
    prune(
        network, 0.5, pattern="unit", example=example, allocation="uniform", exclude="output layer"
    )
    return network


def check_alike(network: nn.Module, small: nn.Module, example: Tensor) -> None:
    for given in (example, torch.randn(3, *example.shape[1:])):
        with torch.no_grad():
            exact = copy.deepcopy(network).double()(given.double())
            found = copy.deepcopy(small).double()(given.double())
        assert float((found - exact).abs().max() / exact.abs().max()) < 1e-12
    learner = copy.deepcopy(small).train()
    learner(example).square().mean().backward()
    torch.optim.SGD(learner.parameters(), 0.1).step()


@pytest.mark.parametrize("name", IN_IMAGES)
def test_channels_go_through_calls_that_keep_them_apart(name: str) -> None:
    make, left = IN_IMAGES[name]
    network = pruned(make, IMAGES)
    small = compact(network, IMAGES)
    assert {layer: small.get_submodule(layer).out_channels for layer in left} == left
    check_alike(network, small, IMAGES)


def test_a_buffer_that_is_saved_goes_with_its_channels(tmp_path: Any) -> None:
    network = pruned(IN_IMAGES["scaled"][0], IMAGES)
    small: Any = compact(network, IMAGES)
    assert (small.spread.shape, small.marks.shape) == ((4,), (1, 4, 1, 1))
    save_shrunk(small, tmp_path / "small.safetensors")
    again = load_shrunk(network, tmp_path / "small.safetensors")
    torch.testing.assert_close(again(IMAGES), small(IMAGES))


@pytest.mark.parametrize("name", IN_TIME)
def test_hidden_units_go_with_their_first_states(name: str) -> None:
    network = pruned(IN_TIME[name], STEPS)
    small: Any = compact(network, STEPS)
    layers = [one for one in small.children() if isinstance(one, nn.RNNBase)]
    assert all(layer.hidden_size == 4 for layer in layers)
    assert small.head.in_features == 4
    check_alike(network, small, STEPS)


def test_hidden_units_stay_where_a_first_state_has_a_fixed_size() -> None:
    report = compaction_report(
        pruned(lambda: Net(of_fixed_size, first=lstm(), head=nn.Linear(8, 2)), STEPS), STEPS
    )
    assert report.layers["first.weight_ih_l0"].fixed == (
        "the forward fills something of the fixed size 8"
    )
