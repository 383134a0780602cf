"""How much the networks before and after give away about what they were trained on."""

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gossamer.core.errors import InputError, MissingPackageError
from gossamer.core.installing import needing
from gossamer.graph.keeping import unchanged
from gossamer.records.shrinking import Leaked
from gossamer.shrinking.data import Data
from gossamer.shrinking.split import Split
from gossamer.shrinking.task import Task, logits, outputs_of

_MOST = 2000
"""Members, and as many others, that are audited."""
_LEAST = 50


def leaked(
    before: nn.Module, after: nn.Module, data: Data, task: Task, seed: int = 0
) -> tuple[Leaked, ...]:
    """Audit two networks on the same members and others; nothing where no members are given.

    Others are test examples. An attack that one of the audits could not run is left out.

    Parameters
    ----------
    before, after
        The dense network and the chosen one.
    data
        With `members`, and test examples.
    task
        Of telling classes apart.
    seed
        Decides which examples are audited.
    """
    if data.members is None or data.test is None or not task.is_classification:
        return ()
    count = min(_MOST, len(data.members), len(data.test))
    if count < _LEAST:
        return ()
    parts = [data.members.sample(count, seed), data.test.sample(count, seed)]
    labels = np.concatenate([part.whole()[1].numpy() for part in parts])
    members = np.repeat([True, False], count)
    try:
        with needing("audit", "the leakage of members"):
            from gossamer.leakage import audit
        found = [audit(_logits(one, parts), labels, members, seed=seed) for one in (before, after)]
    except (InputError, MissingPackageError) as problem:  # the search itself must not be lost
        warnings.warn(f"no leakage was measured: {problem}", RuntimeWarning, stacklevel=2)
        return ()
    after_by_name = {attack.name: attack for attack in found[1].attacks}
    return tuple(
        Leaked(
            attack=one.label,
            before=one.auc,
            after=after_by_name[one.name].auc,
            members=count,
            others=count,
            is_headline=one.name == found[0].headline,
        )
        for one in found[0].attacks
        if one.name in after_by_name and not one.optimistic
    )


def _logits(network: nn.Module, parts: list[Split]) -> NDArray[np.float32]:
    with unchanged(network), torch.no_grad():
        network.eval()
        found = [
            logits(outputs_of(network, inputs)).float().cpu()
            for part in parts
            for inputs, _ in part.batches(256)
        ]
    return torch.cat(found).numpy()
