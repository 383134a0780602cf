from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gossamer.benchmarking.subjects import (
    Case,
    Subject,
    build_network,
    cases,
    compiled_case,
    network_of,
    pruned_network,
    random_inputs,
    share_of_zeros,
    subject,
)
from gossamer.core.errors import InputError
from gossamer.masks import prune
from gossamer.networks.arguments import parsed_arguments

SMALL = Subject("mlp", (4, 5))


def test_cases_are_each_once_and_change_sparsity_last() -> None:
    found = cases([0.9, 0.5, 0.9], [64, 1], [2, 1, 1])
    assert len(found) == 2 * 2 * 2
    assert [case.sparsity for case in found] == [0.5] * 4 + [0.9] * 4
    assert found[0] == Case(0.5, 1, 1)


def test_compiling_is_for_batch_64_at_90_percent_on_one_thread() -> None:
    grid = cases([0.5, 0.9, 0.95], [1, 64, 1024], [1, 2])
    assert compiled_case(grid) == Case(0.9, 1, 64)
    assert compiled_case(cases([0.5, 0.8], [8, 1024], [4])) == Case(0.8, 4, 8)


@pytest.mark.parametrize("pattern", ["weight", "block"])
def test_each_layer_has_the_same_share_of_zeros(pattern: str) -> None:
    chosen = Subject("mlp", (20, 20), pattern=pattern)  # type: ignore[arg-type]
    network = pruned_network(chosen, 0.9)
    for weight in network.parameters():
        if weight.numel() > 10_000:
            assert (weight == 0).float().mean().item() == pytest.approx(0.9, abs=0.002)
    assert share_of_zeros(network, chosen) == pytest.approx(0.9, abs=0.002)
    assert not network.training


def test_blocks_have_one_pattern_in_four_rows() -> None:
    network = pruned_network(Subject("mlp", (20, 20), pattern="block"), 0.9)
    first = network.get_parameter("dense1.weight")
    kept = (first != 0).view(-1, 4, 400)
    assert (kept == kept[:, :1]).all()


def test_units_go_whole_but_never_the_classes() -> None:
    network = pruned_network(Subject("mlp", (4, 5), pattern="unit"), 0.75)
    rows = (network.get_parameter("dense1.weight") != 0).any(dim=1)
    assert rows.sum().item() == 250
    assert (network.get_parameter("output.weight") != 0).any(dim=1).all()


def test_no_sparsity_prunes_nothing() -> None:
    assert share_of_zeros(pruned_network(SMALL, 0.0), SMALL) == 0.0


def test_the_network_is_the_same_in_every_process() -> None:
    first, second = pruned_network(SMALL, 0.5), pruned_network(SMALL, 0.5)
    assert all(map(torch.equal, first.parameters(), second.parameters()))
    np.testing.assert_array_equal(random_inputs((3, 4)), random_inputs((3, 4)))


def test_the_wide_head_is_that_of_the_wide_network() -> None:
    widths = [tuple(weight.shape) for weight in build_network(subject("wide-head")).parameters()]
    assert widths == [(2048, 8192), (512, 2048), (128, 512), (32, 128), (10, 32)]


def test_weights_are_taken_from_a_file(tmp_path: Path) -> None:
    weights = {name: one + 1 for name, one in build_network(SMALL).state_dict().items()}
    save_file(weights, tmp_path / "mine.safetensors")
    chosen = Subject("mlp", (4, 5), weights=tmp_path / "mine.safetensors")
    for name, one in build_network(chosen).state_dict().items():
        assert torch.equal(one, weights[name])


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"dense1.weight": torch.zeros(2, 2)}, path)
    expected = (
        r"other.safetensors: holds other weights.*dense1.weight is \[2, 2\].*give --input-shape"
    )
    with pytest.raises(InputError, match=expected):
        build_network(Subject("mlp", (4, 5), weights=path))


@pytest.mark.parametrize("content", [None, b"no tensors"])
def test_a_file_that_is_none_of_weights_is_named(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"mine.safetensors: cannot be read as weights"):
        build_network(Subject("mlp", (4, 5), weights=path))


def test_the_shape_of_ones_own_network_must_be_given() -> None:
    with pytest.raises(InputError, match="--input-shape"):
        subject("my.networks:small")
    assert subject("my.networks:small", (3, 8, 8)).input_shape == (3, 8, 8)


def test_zeros_that_there_are_stay_and_are_timed_first() -> None:
    grid = cases([0.5, 0.9, 0.95], [1], [1], given=0.9)
    assert grid == (Case(0.9, 1, 1, as_given=True), Case(0.95, 1, 1))
    assert cases([0.5], [1], [1], given=0.0004) == (Case(0.5, 1, 1),)


@pytest.fixture
def pruned_weights(tmp_path: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    """Return a file of weights with zeros, and these weights."""
    network = build_network(SMALL)
    prune(network, 0.8, allocation="global")
    save_file(network.state_dict(), tmp_path / "pruned.safetensors")
    return tmp_path / "pruned.safetensors", network.state_dict()


def test_a_network_is_as_it_was_given_in_its_own_row(
    pruned_weights: tuple[Path, dict[str, torch.Tensor]],
) -> None:
    path, weights = pruned_weights
    chosen = Subject("mlp", (4, 5), weights=path)
    zeros = share_of_zeros(build_network(chosen), chosen)
    assert zeros == pytest.approx(0.8, abs=1e-3)
    given, further = cases([0.5, 0.95], [1], [1], zeros)
    for name, one in network_of(chosen, given).state_dict().items():
        assert torch.equal(one, weights[name])
    pruned = network_of(chosen, further)
    assert share_of_zeros(pruned, chosen) == pytest.approx(0.95, abs=1e-2)
    for name, one in pruned.state_dict().items():
        assert bool((one[weights[name] == 0] == 0).all())


NETWORK = """
from torch import nn

def sized(width: int = 6, outputs: int = 5):
    return nn.Sequential(nn.Flatten(), nn.Linear(12, width), nn.ReLU(), nn.Linear(width, outputs))
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "benched_networks.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    return "benched_networks:sized"


def test_a_network_of_ones_own_says_itself_how_many_outputs_it_has(own: str) -> None:
    assert build_network(subject(own, (3, 2, 2)))(torch.zeros(2, 3, 2, 2)).shape == (2, 5)
    assert build_network(subject(own, (3, 2, 2), classes=5)) is not None
    with pytest.raises(
        InputError, match=r"--classes 3: benched.*gives \[5\] .*leave --classes out"
    ):
        build_network(subject(own, (3, 2, 2), classes=3))


def test_arguments_reach_the_network(own: str) -> None:
    given = parsed_arguments(["width=9", "outputs=2"])
    network = build_network(subject(own, (3, 2, 2), arguments=given))
    assert network(torch.zeros(2, 3, 2, 2)).shape == (2, 2)
    hidden = parsed_arguments(["hidden=[30, 20]"])
    widths = [
        tuple(w.shape) for w in build_network(subject("mlp", (5,), arguments=hidden)).parameters()
    ]
    assert widths == [(30, 5), (20, 30), (10, 20)]


@pytest.mark.parametrize(
    ("model", "text", "complaint"),
    [
        ("mlp", "width=3", "--network-arg width: mlp has no such parameter"),
        ("mlp", "hidden=[0]", "hidden=.0.: whole numbers from 1 on were expected"),
        ("mlp", "hidden=wide", "hidden=wide: whole numbers from 1 on"),
        ("wide-head", "hidden=3", "hidden: wide-head has no such"),
        ("mnist-cnn", "hidden=3", "hidden: mnist-cnn has no such"),
    ],
)
def test_arguments_of_built_in_networks(model: str, text: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        build_network(subject(model, arguments=parsed_arguments([text])))


def test_a_file_in_the_place_of_the_network_is_no_network(tmp_path: Path) -> None:
    path = tmp_path / "trained.pt"
    path.touch()
    with pytest.raises(InputError, match=r"trained.pt: is a file.*--weights .*trained.pt"):
        subject(str(path))
    source = tmp_path / "networks.py"
    source.touch()
    with pytest.raises(InputError, match=r"networks.py: which network.*networks.py:small"):
        subject(str(source))
