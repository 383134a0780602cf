"""Compressed networks give what their masked models give, or refuse in one sentence."""

import copy
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import gossamer.compression.compressing as compressing
from gossamer.compression import Compressed, compact, compress
from gossamer.compression.checking import relative_difference
from gossamer.core.errors import InputError
from gossamer.engine import Convolution, Linear, Network
from gossamer.engine.native import INSTRUCTION_SET_VARIABLE, Engine
from gossamer.masks import Block, prune
from gossamer.measures.functional.latency import Timing
from gossamer.networks import SparseLinear, pack
from gossamer.networks import published as networks
from gossamer.runtime import load

TOLERANCE = 1e-5


def unusual_statistics(model: nn.Module) -> nn.Module:
    """Give batch normalisations means far from zero and negative scales."""
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.uniform_(-3, 3)
            norm.running_var.uniform_(0.1, 10)
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
    return model


def in_engine(model: nn.Module, example: Tensor) -> Compressed:
    return compress(model, example, threads=1, choose="engine")


def error(small: Compressed, model: nn.Module, example: Tensor) -> float:
    with torch.no_grad():
        reference = copy.deepcopy(model).eval().double()(example.double())
    return relative_difference(small(example), reference)


# --- networks


class Residual(nn.Module):
    """The basic block of ResNet."""

    def __init__(self, before: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride > 1 or before != channels:
            convolution = nn.Conv2d(before, channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(channels))

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.relu(self.bn1(self.conv1(inputs)))
        hidden = self.bn2(self.conv2(hidden))
        hidden += self.shortcut(inputs)
        out: Tensor = self.relu(hidden)
        return out


class Inverted(nn.Module):
    """The block of MobileNetV2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = 4 * channels
        self.layers = nn.Sequential(
            nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(),
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False), nn.BatchNorm2d(wide),
            nn.ReLU6(), nn.Conv2d(wide, channels, 1, bias=False), nn.BatchNorm2d(channels),
        )  # fmt: skip

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = inputs + self.layers(inputs)
        return out


class DenseBlock(nn.Module):
    """The block of DenseNet: normalisation, ReLU, convolution, concatenation."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels + i * growth) for i in range(3))
        self.convs = nn.ModuleList(
            nn.Conv2d(channels + i * growth, growth, 3, padding=1, bias=False) for i in range(3)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        found = inputs
        for norm, conv in zip(self.norms, self.convs, strict=True):
            found = torch.cat([found, conv(functional.relu(norm(found)))], 1)
        return found


def headed(*blocks: nn.Module, channels: int) -> nn.Module:
    stem = nn.Conv2d(3, 8, 3, padding=1)
    return nn.Sequential(
        stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5)
    )


BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "resnet": lambda: headed(Residual(8, 8, 1), Residual(8, 16, 2), channels=16),
    "mobilenet": lambda: headed(Inverted(8), Inverted(8), channels=8),
    "densenet": lambda: headed(
        DenseBlock(8, 4), nn.BatchNorm2d(20), nn.ReLU(), nn.AvgPool2d(2), channels=20
    ),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_usual_architectures_run_whole_in_the_engine(name: str) -> None:
    torch.manual_seed(0)
    model = unusual_statistics(BLOCKS[name]())
    prune(model, 0.7)
    example = torch.randn(3, 3, 12, 12)
    small = in_engine(model, example)
    assert small.choice == "engine"
    assert small.remaining == ()
    assert small.network is not None
    assert error(small, model, torch.randn(5, 3, 12, 12)) <= TOLERANCE


PUBLISHED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: networks.mlp(64, 10, (80, 40)), (1, 8, 8)),
    "fashion-cnn": (lambda: networks.fashion_cnn((1, 12, 12), 10), (1, 12, 12)),
    "mnist-cnn": (lambda: networks.mnist_cnn((1, 12, 12), 10), (1, 12, 12)),
    "cifar-cnn": (lambda: networks.cifar_cnn((3, 8, 8), 10), (3, 8, 8)),
    "cifar-dropout-cnn": (lambda: networks.cifar_dropout_cnn((3, 8, 8), 10), (3, 8, 8)),
    "cifar-wide-cnn": (lambda: networks.cifar_wide_cnn((3, 8, 8), 10, (64, 32)), (3, 8, 8)),
}
PATTERNS: dict[str, Any] = {"weight": "weight", "unit": "unit", "block": Block(4, 1)}


PRUNED = (("weight", 0.0), ("weight", 0.95), ("unit", 0.75), ("block", 0.9))
DEAR = ("cifar-wide-cnn", "cifar-dropout-cnn")
"""Larger networks of the layers of `cifar-cnn`: one way of pruning them is tried each time."""


@pytest.mark.parametrize(
    ("name", "pattern", "sparsity"),
    [
        pytest.param(*one, marks=pytest.mark.slow if one[0] in DEAR and one[1] != "unit" else ())
        for one in ((name, *pruned) for name in PUBLISHED for pruned in PRUNED)
    ],
)
def test_published_networks(name: str, pattern: str, sparsity: float) -> None:
    torch.manual_seed(0)
    make, shape = PUBLISHED[name]
    model = unusual_statistics(make())
    prune(model, sparsity, allocation="uniform", pattern=PATTERNS[pattern], exclude="output layer")
    example = torch.randn(3, *shape)
    small = in_engine(model, example)
    assert small.choice == "engine"
    assert error(small, model, example) <= TOLERANCE


def test_weights_pruned_in_blocks_are_stored_in_blocks() -> None:
    model = networks.mlp(64, 10, (80, 200))  # so wide that every unit is read
    prune(model, 0.9, pattern=Block(4, 1), exclude="output layer")
    network = in_engine(model, torch.randn(2, 64)).network
    assert network is not None
    kinds = [layer.weights.layout for layer in network.layers if isinstance(layer, Linear)]
    assert kinds == ["block", "block", "dense"]


def in_blocks_with_units_unread() -> nn.Module:
    """Return a network whose 32 units lie in blocks; nothing reads one block and two more units."""
    torch.manual_seed(0)
    last = nn.Linear(32, 5)
    model = nn.Sequential(nn.Linear(40, 32), nn.ReLU(), last)
    prune(model, 0.8, pattern=Block(4, 1), allocation="uniform", exclude="2")
    with torch.no_grad():
        last.weight[:, [1, 14, *range(20, 24)]] = 0
    return model


def test_blocks_outlive_the_loss_of_a_row() -> None:
    model = in_blocks_with_units_unread()
    example = torch.randn(3, 40)
    small = in_engine(model, example)
    assert small.network is not None
    first = small.network.layers[0]
    assert isinstance(first, Linear)
    # Without the six units that nothing reads, rows would no longer lie in blocks.
    assert (first.weights.layout, first.weights.rows) == ("block", 28)
    assert error(small, model, example) <= TOLERANCE


@pytest.mark.parametrize(("smallest", "rows"), [(1.0, 26), (3.0, 28)])
def test_blocks_are_kept_where_that_is_faster(
    monkeypatch: pytest.MonkeyPatch, smallest: float, rows: int
) -> None:
    model = in_blocks_with_units_unread()
    timed = {"small": Timing((smallest,)), "aligned": Timing((2.0,)), "engine": Timing((0.1,))}

    def timings(calls: Mapping[str, object], *_: object) -> dict[str, Timing]:
        return {name: timed.get(name, Timing((9.0,))) for name in calls}

    monkeypatch.setattr(compressing, "time_candidates", timings)
    network = compress(model, torch.randn(3, 40), threads=1, seconds=0.01).network
    assert network is not None
    first = network.layers[0]
    assert isinstance(first, Linear)
    assert first.weights.rows == rows


def test_sparse_layers_are_lowered_as_their_dense_twins() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))
    packed = pack(model, prune(model, 0.8))
    example = torch.randn(2, 3, 6, 6)
    small = in_engine(packed, example)
    assert small.remaining == ()
    assert torch.allclose(small(example), model(example), atol=1e-5)


def test_random_connections() -> None:
    model = nn.Sequential(SparseLinear(20, 30, connections=60, seed=0), nn.ELU(), nn.Linear(30, 2))
    example = torch.randn(4, 20)
    small = in_engine(model, example)
    assert torch.allclose(small(example), model(example), atol=1e-5)


# --- what stays in PyTorch


class Bessel(nn.Module):
    """A function of each number that the engine does not have."""

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.i0(inputs)


def test_what_cannot_be_lowered_stays_in_pytorch_and_is_named(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), Bessel(), nn.Flatten(), nn.Linear(288, 4)
    )
    prune(model, 0.8)
    example = torch.randn(2, 3, 6, 6)
    small = in_engine(model, example)
    assert small.choice == "engine"
    assert small.network is None
    assert small.remaining == ("2 (i0)",)
    assert error(small, model, torch.randn(5, 3, 6, 6)) <= TOLERANCE
    with pytest.raises(InputError, match=r"cannot be written .* 2 \(i0\)"):
        small.save(tmp_path / "net.gsm")
    assert not list(tmp_path.iterdir())


def test_a_layer_of_a_transformer_runs_in_the_engine() -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    prune(model, 0.8)
    example = torch.randn(3, 5, 16)
    small = in_engine(model, example)
    assert small.choice == "engine"
    assert small.remaining == ()
    assert error(small, model, torch.randn(2, 5, 16)) <= TOLERANCE


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.left, self.right = nn.Linear(6, 8), nn.Linear(8, 2), nn.Linear(8, 3)

    def forward(self, inputs: Tensor) -> dict[str, Any]:
        hidden = functional.relu(self.trunk(inputs))
        return {"left": self.left(hidden), "others": [self.right(hidden), len(inputs)]}


def test_outputs_in_a_dictionary_keep_their_shape() -> None:
    model, example = TwoHeads(), torch.randn(4, 6)
    small = in_engine(model, example)
    found, wanted = small(example), model(example)
    assert small.choice == "engine"
    assert torch.allclose(found["left"], wanted["left"], atol=1e-6)
    assert torch.allclose(found["others"][0], wanted["others"][0], atol=1e-6)
    assert small(example.numpy())["others"][0].shape == (4, 3)


class ByValue(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.first(inputs) if inputs.sum() > 0 else self.second(inputs)
        return out


def test_a_model_that_cannot_be_recorded_stays_as_it_is(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model, example = ByValue(), torch.ones(2, 4)
    small = in_engine(model, example)
    assert small.choice == "dense"
    assert "ByValue cannot be recorded" in small.remaining[0]
    assert torch.equal(small(-example), model(-example))
    assert capfd.readouterr().err == ""
    with pytest.raises(InputError, match="cannot be recorded"):
        small.save(tmp_path / "net.gsm")


class FixedBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.layer(inputs.view(3, 4))
        return out


def test_a_batch_size_that_the_forward_fixes_is_kept() -> None:
    model, example = FixedBatch(), torch.randn(3, 4)
    small = in_engine(model, example)
    assert torch.allclose(small(example), model(example), atol=1e-6)
    assert not small.any_batch
    assert small.fixed_batch == (
        "what it computes depends on the size of the batch, which its forward reads"
    )
    with pytest.raises(InputError, match=r"batches of 3 only \(what it computes depends on the"):
        small(torch.randn(2, 4))
    assert f"Batches of 3 only: {small.fixed_batch}" in str(small)


class CountingExamples(nn.Module):
    """Makes plain numbers of the size of the batch in ways that stay right for any size."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.last = nn.Conv2d(1, 3, 3), nn.Linear(12, 2)

    def forward(self, inputs: Tensor) -> Any:
        found = functional.relu(self.layer(inputs)).view(len(inputs), -1)
        return {"mean": self.last(found) / float(inputs.shape[0]), "examples": len(inputs)}


def test_a_size_taken_for_a_number_stays_open() -> None:
    model = CountingExamples()
    small = in_engine(model, torch.randn(3, 1, 4, 4))
    assert small.choice == "engine"
    assert small.any_batch
    for size in (1, 5):
        inputs = torch.randn(size, 1, 4, 4)
        found, expected = small(inputs), model(inputs)
        assert found["examples"] == size
        torch.testing.assert_close(found["mean"], expected["mean"], rtol=1e-5, atol=1e-6)


def test_an_adaptive_pooling_that_does_not_divide_runs_in_the_engine() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(12, 5))
    small = in_engine(model, torch.randn(2, 3, 13, 8))
    assert small.choice == "engine"
    assert small.remaining == ()
    assert error(small, model, torch.randn(3, 3, 13, 8)) <= TOLERANCE


@pytest.mark.parametrize(("low", "high"), [(-1e4, 1e4), (-1e6, None), (-1.0, 1.0)])
def test_clamps_far_from_the_numbers_keep_their_digits(low: float, high: float | None) -> None:
    class Clamped(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs.clamp(low, high)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30), Clamped(), nn.Linear(30, 4))
    small = in_engine(model, torch.randn(5, 20))
    assert small.remaining == ()
    assert error(small, model, torch.randn(50, 20)) <= TOLERANCE


def test_what_compact_could_not_follow_is_told() -> None:
    small = in_engine(nn.Sequential(nn.Linear(4, 4), ByValue()), torch.ones(2, 4))
    assert small.unfollowed
    assert all(f"({why})" in str(small) for why in small.unfollowed.values())
    assert in_engine(nn.Linear(4, 4), torch.ones(2, 4)).unfollowed == {}


# --- the compressed network


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    network = networks.fashion_cnn((1, 12, 12), 10)
    prune(network, 0.9, allocation="uniform")
    return network


@pytest.fixture(scope="module")
def small(model: nn.Module) -> Compressed:
    return in_engine(model, torch.randn(4, 1, 12, 12))


@pytest.mark.parametrize("batch", [0, 1, 2, 7, 65])
def test_any_batch_size(model: nn.Module, small: Compressed, batch: int) -> None:
    inputs = torch.randn(batch, 1, 12, 12)
    with torch.no_grad():
        assert torch.allclose(small(inputs), model(inputs), atol=1e-5)


def test_arrays_give_arrays_and_no_gradient_is_kept(small: Compressed) -> None:
    inputs = torch.randn(2, 1, 12, 12, requires_grad=True)
    found = small(inputs)
    assert not found.requires_grad
    array = small(inputs.detach().numpy().astype(np.float64))
    assert isinstance(array, np.ndarray)
    assert np.array_equal(array, found.numpy())
    strided = inputs.detach().transpose(2, 3)
    assert torch.equal(small(strided), small(strided.contiguous()))


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        (torch.zeros(2, 1, 12, 13), r"shape \[2, 1, 12, 13\], expected \[examples, 1, 12, 12\]"),
        (torch.zeros(1, 12, 12), r"single example pass numpy.expand_dims\(x, 0\)"),
        (torch.zeros(2, 1, 12, 12, dtype=torch.int64), "of type int64, expected floating-point"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(
    small: Compressed, inputs: Tensor, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        small(inputs)


def test_the_model_stays_as_it_is() -> None:
    model = nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.ReLU(inplace=True), nn.Linear(8, 2)
    )
    model[1].eval()
    before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    example = torch.randn(3, 4)
    given, random, threads = example.clone(), torch.random.get_rng_state(), torch.get_num_threads()
    small = compress(model, example, threads=2, seconds=0.05)
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(example, given)
    assert torch.equal(torch.random.get_rng_state(), random)
    assert torch.get_num_threads() == threads
    answer = small(example)
    nn.init.zeros_(next(model.parameters()))
    assert torch.equal(small(example), answer)


def test_the_file_predicts_the_same(small: Compressed, tmp_path: Path) -> None:
    small.save(tmp_path / "net.gsm")
    inputs = np.random.default_rng(0).standard_normal((5, 1, 12, 12)).astype(np.float32)
    predictor = load(tmp_path / "net.gsm")
    assert np.allclose(predictor(inputs), small(inputs), atol=1e-6)
    small.save(tmp_path / "half.gsm", dtype="bfloat16")
    assert (tmp_path / "half.gsm").stat().st_size < (tmp_path / "net.gsm").stat().st_size


def test_stored_numbers_shrink_with_the_mask(model: nn.Module, small: Compressed) -> None:
    dense = sum(parameter.numel() for parameter in model.parameters())
    nonzero = sum(int(parameter.count_nonzero()) for parameter in model.parameters())
    assert nonzero * 0.5 < small.size < 0.2 * dense
    assert small.network is not None
    first = small.network.layers[0]
    assert isinstance(first, Convolution)


def test_measuring_says_what_was_timed() -> None:
    model = networks.fashion_cnn((1, 12, 12), 10)
    prune(model, 0.5, pattern="unit", exclude="output layer")
    small = compress(model, torch.randn(2, 1, 12, 12), threads=1, seconds=0.1)
    assert list(small.timings) == [
        "dense", "compact", "engine", "dense channels_last", "compact channels_last",
    ]  # fmt: skip
    assert small.choice in small.timings
    text = str(small)
    assert "Timed in turn when it was compressed, a batch of 2 by 1 thread (median" in text
    assert all(name in text for name in small.timings)
    assert "Stored: " in text


def test_never_slower_than_the_dense_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_alike(calls: dict[str, Any], *_: Any) -> dict[str, Timing]:
        return {name: Timing((1.0,)) for name in calls}

    monkeypatch.setattr(compressing, "time_candidates", all_alike)
    model, example = nn.Sequential(nn.Linear(4, 4)), torch.randn(2, 4)
    small = compress(model, example)
    assert small.choice == "dense"
    assert "the dense network in PyTorch, as nothing else was surely faster" in str(small)
    assert torch.equal(small(example), model(example))


@pytest.mark.parametrize(("slowest", "busy"), [(1.2, False), (4.0, True)])
def test_times_of_a_busy_machine_are_called_so(
    slowest: float, busy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def varying(calls: dict[str, Any], *_: Any) -> dict[str, Timing]:
        return {name: Timing((1.0, 1.0, slowest, slowest)) for name in calls}

    monkeypatch.setattr(compressing, "time_candidates", varying)
    text = str(compress(nn.Sequential(nn.Linear(4, 4)), torch.randn(2, 4)))
    assert ("The machine was busy, as middle halves reach over 4.0×" in text) == busy


def test_a_wrong_answer_is_never_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong:
        def __init__(self, network: Any) -> None:
            pass

        def __call__(self, inputs: np.ndarray, threads: int) -> np.ndarray:
            return np.zeros((len(inputs), 4), np.float32)

    monkeypatch.setattr(compressing, "Engine", Wrong)
    model, example = nn.Linear(4, 4), torch.randn(2, 4)
    with pytest.warns(RuntimeWarning, match=r"engine form of Linear is not used: .* differs"):
        small = in_engine(model, example)
    assert small.choice == "dense"
    assert small.network is None
    assert torch.equal(small(example), model(example))
    assert "differs" in small.remaining[0]


def test_a_part_that_the_engine_refuses_stays_in_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    def choosy(network: Network) -> Engine:
        if any(isinstance(layer, Linear) for layer in network.layers):
            raise InputError("the network cannot be run: too large.")
        return Engine(network)

    monkeypatch.setattr(compressing, "Engine", choosy)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), Bessel(), nn.Flatten(), nn.Linear(64, 3))
    example = torch.randn(2, 3, 6, 6)
    small = in_engine(model, example)
    assert small.choice == "engine"
    assert small.remaining == (
        "what leads to 3 (the network cannot be run: too large)", "1 (i0)",
    )  # fmt: skip
    assert error(small, model, example) <= TOLERANCE
    linear = in_engine(model[2:], torch.randn(2, 4, 4, 4))
    assert linear.choice == "dense"
    assert "too large" in str(linear)


def test_the_instruction_set_that_is_asked_for_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    model, example = nn.Linear(4, 4), torch.randn(2, 4)
    monkeypatch.setenv(INSTRUCTION_SET_VARIABLE, "numpy")
    small = compress(model, example, threads=1, seconds=0.05)
    assert torch.allclose(small(example), model(example), atol=1e-6)
    monkeypatch.setenv(INSTRUCTION_SET_VARIABLE, "none such")
    with pytest.raises(InputError, match="none such"):
        compress(model, example)


def test_what_is_timed_is_what_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    plain = Compressed.__call__

    def noted(self: Compressed, inputs: Any) -> Any:
        called.append(self.choice)
        return plain(self, inputs)

    def once(calls: dict[str, Callable[[], object]], *_: Any) -> dict[str, Timing]:
        for call in calls.values():
            call()
        return {name: Timing((1.0 if name == "engine" else 2.0,)) for name in calls}

    monkeypatch.setattr(Compressed, "__call__", noted)
    monkeypatch.setattr(compressing, "time_candidates", once)
    small = compress(nn.Conv2d(3, 4, 3), torch.randn(2, 3, 6, 6))
    assert called == ["engine", "dense channels_last"]
    assert small.choice == "engine"


class Seeded(nn.Module):
    """Draws the same random numbers in each call."""

    def __init__(self, draw: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layer, self.draw = nn.Linear(6, 4), draw

    def forward(self, inputs: Tensor) -> Tensor:
        return self.draw(self.layer(inputs))


def noise(values: Tensor) -> Tensor:
    torch.manual_seed(0)
    return values + torch.randn_like(values)


def little_noise(values: Tensor) -> Tensor:
    torch.manual_seed(0)
    return values + 1e-6 * torch.rand(4)


def noise_of_its_own(values: Tensor) -> Tensor:
    return values + torch.randn(4, generator=torch.Generator().manual_seed(1))


def drops(values: Tensor) -> Tensor:
    torch.manual_seed(0)
    return functional.dropout(values, 0.5)


@pytest.mark.parametrize(
    ("draw", "name"),
    [(noise, "randn_like"), (little_noise, "rand"), (noise_of_its_own, "randn"), (drops, "")],
)
def test_random_numbers_of_a_seed_in_the_forward_are_not_recorded(
    draw: Callable[[Tensor], Tensor], name: str
) -> None:
    model, example = Seeded(draw), torch.randn(8, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small = compress(model, example, choose="engine")
    assert small.choice == "dense"
    assert f"draws random numbers ({name}" in small.remaining[0]
    assert "register_buffer" in small.remaining[0]
    for _ in range(2):
        torch.testing.assert_close(small(example), model(example).detach())


class WithNoise(nn.Module):
    noise: Tensor

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layer = nn.Linear(6, 4)
        self.register_buffer("noise", torch.randn(4))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs) + self.noise  # type: ignore[no-any-return]


def test_the_advice_holds_to_keep_random_numbers_in_a_buffer() -> None:
    model, example = WithNoise(), torch.randn(8, 6)
    small = compress(model, example, choose="engine")
    assert small.choice == "engine"
    torch.testing.assert_close(small(example), model(example).detach())


class GatedByBatch(nn.Module):
    """Computes something else for large batches."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.layer(inputs)
        return found.neg() if inputs.shape[0] > 32 else found


def test_a_network_of_one_batch_size_is_not_written(tmp_path: Path) -> None:
    small = in_engine(GatedByBatch(), torch.randn(4, 6))
    assert small.fixed_batch
    with pytest.raises(InputError, match="batches of 4 only"):
        small.save(tmp_path / "net.gsm")
    assert not list(tmp_path.iterdir())


def test_why_an_output_that_is_no_tensor_is_not_written(tmp_path: Path) -> None:
    small = in_engine(TwoHeads(), torch.randn(4, 6))
    with pytest.raises(InputError, match="gives what is computed in another"):
        small.save(tmp_path / "net.gsm")


@pytest.mark.parametrize(
    "inputs",
    [None, {}, torch.randn(2, 6).to_sparse(), torch.empty(2, 6, device="meta")],
    ids=["None", "dictionary", "sparse", "meta"],
)
def test_what_holds_no_dense_numbers_is_refused(inputs: Any) -> None:
    small = in_engine(nn.Linear(6, 4), torch.randn(4, 6))
    with pytest.raises(InputError, match=r"^inputs: .*expected \[examples, 6\]\.$"):
        small(inputs)


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf"), True, "3", None])
def test_a_time_that_is_none_is_refused_before_anything_is_done(seconds: Any) -> None:
    class Untouchable(nn.Linear):
        def forward(self, _: Tensor) -> Tensor:
            raise AssertionError

    with pytest.raises(InputError, match=r"'seconds' is .*, but a number above 0 was expected"):
        compress(Untouchable(6, 4), torch.randn(4, 6), seconds=seconds)


class Viewing(nn.Module):
    """Flattens with `view`, which needs the channels first."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        flat: Tensor = self.head(torch.relu(self.convolution(x)).view(len(x), -1))
        return flat


def test_a_network_that_flattens_with_view_is_timed_with_channels_first_alone() -> None:
    images = torch.randn(2, 3, 4, 4)
    small = compress(Viewing().eval(), images, threads=1)
    assert "dense" in small.timings
    assert not any("channels_last" in name for name in small.timings)


def test_channels_last_is_for_networks_of_images() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(36, 8))
    assert not any("channels_last" in n for n in compress(flat, torch.randn(2, 4, 3, 3)).timings)
    image = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Flatten())
    assert "dense channels_last" in compress(image, torch.randn(2, 4, 3, 3)).timings


def test_the_report_names_the_modules_that_each_kernel_computes() -> None:
    torch.manual_seed(0)
    text = str(in_engine(unusual_statistics(BLOCKS["resnet"]()), torch.randn(2, 3, 8, 8)))
    lines = [line.rpartition(": ")[2] for line in text.splitlines() if line.startswith("  ")]
    assert lines == [
        "0", "1.conv1, 1.bn1, 1.relu", "1.conv2, 1.bn2, 1, 1.relu", "2.conv1, 2.bn1, 2.relu",
        "2.shortcut.0, 2.shortcut.1", "2.conv2, 2.bn2, 2, 2.relu, 3", "5",
    ]  # fmt: skip


def test_the_report_names_modules_around_what_stays_in_pytorch() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), Bessel(), nn.Linear(8, 3)).eval()
    text = str(in_engine(model, torch.randn(2, 6)))
    assert "linear [8, 6]: dense, 48 of 48 weights: 0, 1\n" in text
    assert "linear [3, 8]: dense, 24 of 24 weights: 3\n" in text


class Side(nn.Module):
    """Two layers side by side, by one of the names that PyTorch has for it."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(5, 3), nn.Linear(5, 2), nn.Linear(5, 4)
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        values = [self.first(x), self.second(x)]
        options: dict[str, Any] = {} if self.name.endswith("stack") else {"dim": -1}
        joined = getattr(torch, self.name)(values, **options)
        return self.last(torch.relu(joined))  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ["cat", "concat", "concatenate", "hstack", "column_stack"])
def test_every_name_of_cat_runs_in_the_engine(name: str) -> None:
    torch.manual_seed(0)
    model, example = Side(name), torch.randn(3, 5)
    small = in_engine(model, example)
    assert small.remaining == ()
    assert small.network is not None
    assert error(small, model, torch.randn(7, 5)) <= TOLERANCE


@pytest.mark.parametrize("inside", [False, True])
def test_networks_made_in_inference_mode_are_compressed_and_compacted(inside: bool) -> None:
    torch.manual_seed(0)
    with torch.inference_mode():
        model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)).eval()
        model.get_parameter("3.weight").data[:, 5:] = 0
    example = torch.randn(4, 6)
    with torch.inference_mode(inside), torch.no_grad():
        wanted = model(example)
        small, smaller = in_engine(model, example), compact(model, example)
    assert small.choice == "engine"
    assert torch.allclose(small(example), wanted, atol=1e-6)
    assert smaller.get_parameter("0.weight").shape == (5, 6)
    assert torch.allclose(smaller(example), wanted, atol=1e-6)
    smaller.train()(example).sum().backward()  # as any other module


def test_what_was_scripted_or_exported_is_refused_with_what_to_give() -> None:
    model, example = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.ones(2, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(model)
    for other in (scripted, torch.export.export(model, (example,))):
        for do in cast("tuple[Any, ...]", (compact, compress)):
            with pytest.raises(InputError, match=r"not \w+: give the module that it was made from"):
                do(other, example)


def test_a_scripted_part_stays_whole() -> None:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        part = torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    model = nn.Sequential(nn.Linear(3, 4), part, nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).eval()
    model.get_parameter("4.weight").data[:, :2] = 0
    example = torch.randn(3, 3)
    smaller = compact(model, example)
    assert smaller.get_parameter("2.weight").shape == (4, 4)
    torch.testing.assert_close(smaller(example), model(example))
