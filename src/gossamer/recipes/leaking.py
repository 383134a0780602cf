"""What one network gives away about its training examples, before other networks are looked at."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gossamer.data.resident import Resident
from gossamer.leakage import Statistics, statistics
from gossamer.leakage.published import best_threshold_attack, published_one_hot_attack
from gossamer.measure.modes import evaluation
from gossamer.recipes.trial_data import TrialData

_BATCH = 1000


def pool_statistics(network: nn.Module, pool: Resident) -> Statistics:
    """Return what attacks need to know of a network's answers to its pool, ``[1, examples]``."""
    return statistics(_logits(network, pool), pool.labels.cpu().numpy())


def published_attacks(network: nn.Module, data: TrialData, gap: float) -> dict[str, float]:
    """Measure what the published studies call inference accuracy, and the floor under it.

    Members are the examples trained on, non-members the test set; thresholds are the best ones on
    the very examples they judge.

    Parameters
    ----------
    network, data
        The network and its data.
    gap
        Training accuracy minus test accuracy.
    """
    inside, outside = (
        (_probabilities(network, part), part.labels.cpu().numpy())
        for part in (data.train, data.test)
    )
    return {
        "gap_attack_accuracy": 0.5 + gap / 2,
        "best_threshold_attack_accuracy": best_threshold_attack(
            *inside, *outside
        ).balanced_accuracy,
        "one_hot_attack_accuracy": published_one_hot_attack(*inside, *outside),
    }


def _logits(network: nn.Module, part: Resident) -> NDArray[np.float32]:
    with torch.no_grad(), evaluation(network):
        starts = range(0, len(part), _BATCH)
        rows = [network(part.inputs[n : n + _BATCH]).float().cpu() for n in starts]
    joined: NDArray[np.float32] = torch.cat(rows).numpy()
    return joined


def _probabilities(network: nn.Module, part: Resident) -> NDArray[np.float64]:
    logits = torch.from_numpy(_logits(network, part)).double()
    chances: NDArray[np.float64] = logits.softmax(dim=1).numpy()
    return chances
