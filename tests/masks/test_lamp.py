"""Layer-adaptive magnitudes, against the definition of Lee et al. (2021), weight by weight."""

import numpy as np
import pytest
import torch
from torch import nn

from gossamer import Block, find_mask
from gossamer.masks import prunable_weights


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 9), nn.ReLU(), nn.Linear(9, 3)
    ).double()


def by_definition(norms: np.ndarray) -> np.ndarray:
    """Return the square of each over the sum of those that do not come before it, equation (1)."""
    order = np.argsort(norms, kind="stable")
    found = np.empty_like(norms)
    for place, at in enumerate(order):
        found[at] = norms[at] ** 2 / sum(norms[other] ** 2 for other in order[place:])
    return found


@pytest.mark.parametrize("sparsity", [0.2, 0.6, 0.93])
def test_the_lowest_shares_of_the_whole_network_go(sparsity: float) -> None:
    model = network()
    values = {one.name: one.weight.detach().numpy().ravel() for one in prunable_weights(model)}
    shares = np.concatenate([by_definition(np.abs(weights)) for weights in values.values()])
    gone = np.zeros(len(shares), bool)
    gone[np.argsort(shares)[: round(sparsity * len(shares))]] = True
    mask = find_mask(model, sparsity, score="lamp")
    kept = np.concatenate([mask[name].numpy().ravel() for name in values])
    assert np.array_equal(kept, ~gone)


def test_blocks_are_compared_by_their_norms() -> None:
    model = network()[3:]
    norms = [
        one.weight.detach().reshape(-1, 3, one.weight.shape[1]).norm(dim=1).numpy().ravel()
        for one in prunable_weights(model)
    ]
    shares = np.concatenate([by_definition(each) for each in norms])
    gone = np.argsort(shares)[: len(shares) // 3]
    mask = find_mask(model, len(gone) / len(shares), score="lamp", pattern=Block(3, 1))
    kept = [one.reshape(-1, 3, one.shape[1])[:, 0].ravel() for one in mask.weights.values()]
    assert (~torch.cat(kept)).nonzero().ravel().tolist() == sorted(gone.tolist())


def test_the_scale_of_a_layer_does_not_matter() -> None:
    model, scaled = network(), network()
    with torch.no_grad():
        scaled.get_parameter("0.weight").mul_(1e-6)
        scaled.get_parameter("5.weight").mul_(1e6)
    for sparsity in (0.5, 0.9):
        mask, other = (find_mask(one, sparsity, score="lamp") for one in (model, scaled))
        assert all(torch.equal(mask[name], other[name]) for name in mask.weights)


def test_equal_weights_go_by_position_and_a_layer_of_zeros_is_no_error() -> None:
    model = nn.Sequential(nn.Linear(4, 1, bias=False), nn.Linear(1, 2, bias=False))
    nn.init.constant_(model.get_parameter("0.weight"), -2.0)
    nn.init.zeros_(model.get_parameter("1.weight"))
    mask = find_mask(model, 3 / 6, score="lamp")
    assert mask["0.weight"].tolist() == [[False, False, True, True]]
    assert mask["1.weight"].sum() == 1  # of what is zero, too, a layer keeps one
