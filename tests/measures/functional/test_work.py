from typing import cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gossamer.core.errors import InputError
from gossamer.measures.functional import Multiplies, multiply_adds
from gossamer.networks import fashion_cnn, mlp


def sparsify(network: nn.Module, share: float = 0.5) -> None:
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        keep = torch.rand(parameter.shape, generator=generator) >= share
        parameter.data = keep.to(parameter.dtype)


def nonzero(weight: Tensor) -> int:
    return int(weight.count_nonzero())


def sums_of_ones(network: nn.Module, example: Tensor) -> Multiplies:
    """Count the products of a layer without padding: all of them are one, so add them up."""
    ones = torch.ones_like(example)
    nonzero = network(ones).sum().item()
    network.get_parameter("weight").data.fill_(1.0)
    return Multiplies(dense=network(ones).sum().item(), nonzero=nonzero)


def test_published_networks() -> None:
    assert multiply_adds(mlp(784, 10), torch.zeros(1, 784)).dense == 2_386_000
    convolutions = 26 * 26 * 32 * 9 + 11 * 11 * 64 * 32 * 9
    cnn = fashion_cnn((1, 28, 28), 10)
    assert multiply_adds(cnn, torch.zeros(1, 1, 28, 28)).dense == convolutions + 400_000 + 2_500


def test_only_the_first_example_counts() -> None:
    network = nn.Linear(3, 2)
    assert multiply_adds(network, torch.zeros(5, 3)) == multiply_adds(network, torch.zeros(1, 3))


def test_linear_on_sequences_counts_each_position() -> None:
    network = nn.Linear(3, 2)
    sparsify(network)
    found = multiply_adds(network, torch.zeros(1, 4, 7, 3))
    assert found == Multiplies(4 * 7 * 6, 4 * 7 * nonzero(network.weight))


@settings(max_examples=60)
@given(
    dimensions=st.integers(1, 3),
    transposed=st.booleans(),
    groups=st.sampled_from([1, 2]),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
)
def test_convolutions_without_padding_against_sums_of_ones(
    dimensions: int, transposed: bool, groups: int, kernel: int, stride: int, dilation: int
) -> None:
    kinds = {
        (1, False): nn.Conv1d,
        (2, False): nn.Conv2d,
        (3, False): nn.Conv3d,
        (1, True): nn.ConvTranspose1d,
        (2, True): nn.ConvTranspose2d,
        (3, True): nn.ConvTranspose3d,
    }
    kind = kinds[dimensions, transposed]
    network = kind(2, 4, kernel, stride, dilation=dilation, groups=groups, bias=False)
    sparsify(network)
    example = torch.zeros(1, 2, *[6] * dimensions)
    assert multiply_adds(network, example) == sums_of_ones(network, example)


def test_padding_counts() -> None:
    network = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    assert multiply_adds(network, torch.zeros(1, 1, 4, 5)).dense == 4 * 5 * 9


def test_explicit_loops_over_a_grouped_strided_dilated_convolution() -> None:
    network = nn.Conv2d(4, 6, (2, 3), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2)
    sparsify(network, 0.7)
    height, width = 5, 6
    rows = range(-1, height + 1 - 1 * (2 - 1), 2)
    columns = range(-2, width + 2 - 2 * (3 - 1), 1)
    dense = sparse = 0
    for _ in rows:
        for _ in columns:
            for unit in range(6):
                for channel in range(2):
                    for y in range(2):
                        for x in range(3):
                            dense += 1
                            sparse += bool(network.weight[unit, channel, y, x])
    found = multiply_adds(network, torch.zeros(1, 4, height, width))
    assert found == Multiplies(dense, sparse)


def test_bilinear() -> None:
    class Square(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.form = nn.Bilinear(3, 3, 2)

        def forward(self, values: Tensor) -> Tensor:
            return cast("Tensor", self.form(values, values))

    network = Square()
    sparsify(network)
    found = multiply_adds(network, torch.zeros(1, 5, 3))
    assert found == Multiplies(5 * 18, 5 * nonzero(network.form.weight))


def test_tied_weights_count_at_each_use() -> None:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    sparsify(first)
    network = nn.Sequential(first, second, first)
    found = multiply_adds(network, torch.zeros(1, 3))
    assert found == Multiplies(27, 3 * nonzero(first.weight))


@pytest.mark.parametrize(("kind", "gates"), [("RNN", 1), ("LSTM", 4), ("GRU", 3)])
def test_recurrent(kind: str, gates: int) -> None:
    network = getattr(nn, kind)(3, 5, num_layers=2, bidirectional=True, batch_first=True)
    sparsify(network)
    found = multiply_adds(network, torch.zeros(1, 7, 3))
    first, second = 2 * gates * 5 * (3 + 5), 2 * gates * 5 * (10 + 5)
    kept = sum(nonzero(p) for p in network.parameters() if p.dim() >= 2)
    assert found == Multiplies(7 * (first + second), 7 * kept)


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
def test_lstm_with_projection() -> None:
    network = nn.LSTM(3, 5, proj_size=2, batch_first=True)
    assert multiply_adds(network, torch.zeros(1, 4, 3)).dense == 4 * (20 * 3 + 20 * 2 + 2 * 5)


def test_packed_sequences_count_real_steps() -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.memory = nn.GRU(3, 2, batch_first=True)

        def forward(self, values: Tensor) -> Tensor:
            packed = nn.utils.rnn.pack_padded_sequence(values, torch.tensor([4]), batch_first=True)
            return cast("Tensor", self.memory(packed)[1])

    assert multiply_adds(Packed(), torch.zeros(1, 9, 3)).dense == 4 * 6 * (3 + 2)


@pytest.mark.parametrize(("kind", "gates"), [("RNNCell", 1), ("LSTMCell", 4), ("GRUCell", 3)])
def test_recurrent_cells(kind: str, gates: int) -> None:
    network = getattr(nn, kind)(3, 5)
    sparsify(network)
    kept = nonzero(network.weight_ih) + nonzero(network.weight_hh)
    assert multiply_adds(network, torch.zeros(1, 3)) == Multiplies(gates * 5 * 8, kept)


class Attends(nn.Module):
    """Lets a sequence attend to a shorter one, with arguments by name."""

    def __init__(self, keys: int, values: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, kdim=keys, vdim=values, batch_first=True)
        self.keys, self.values = keys, values

    def forward(self, query: Tensor) -> Tensor:
        key = query.new_zeros(len(query), 3, self.keys)
        value = query.new_zeros(len(query), 3, self.values)
        return cast("Tensor", self.attention(value=value, key=key, query=query)[0])


@pytest.mark.parametrize(("keys", "values"), [(4, 4), (6, 2)])
def test_attention_projections(keys: int, values: int) -> None:
    network = Attends(keys, values)
    found = multiply_adds(network, torch.zeros(1, 5, 4))
    assert found.dense == 5 * 4 * 4 + 3 * 4 * keys + 3 * 4 * values + 5 * 4 * 4


def test_sparse_attention_projections() -> None:
    network = Attends(4, 4)
    sparsify(network)
    query, key, value = network.attention.in_proj_weight.chunk(3)
    expected = 5 * nonzero(query) + 3 * nonzero(key) + 3 * nonzero(value)
    expected += 5 * nonzero(network.attention.out_proj.weight)
    assert multiply_adds(network, torch.zeros(1, 5, 4)).nonzero == expected


def test_transformer_layers_are_seen_despite_their_fast_path() -> None:
    layer = nn.TransformerEncoderLayer(4, 2, dim_feedforward=8, batch_first=True)
    assert multiply_adds(layer, torch.zeros(1, 5, 4)).dense == 5 * (3 * 16 + 16 + 32 + 32)


def test_embeddings_and_normalisation_cost_nothing() -> None:
    network = nn.Sequential(nn.Embedding(10, 4), nn.LayerNorm(4), nn.Flatten(), nn.Linear(12, 2))
    assert multiply_adds(network, torch.zeros(1, 3, dtype=torch.int64)).dense == 24


def test_network_is_left_as_it_was() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout())
    network[1].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    multiply_adds(network, torch.zeros(1, 3))
    assert [module.training for module in network] == [True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_example_that_does_not_fit() -> None:
    network = nn.Sequential(nn.Linear(3, 4))
    with pytest.raises(InputError, match=r"fails on torch.float32 input of shape \(1, 2\)"):
        multiply_adds(network, torch.zeros(1, 2))
    assert network.training
    assert not network[0]._forward_hooks
