"""Where a compressed file comes from: what is written in its metadata beside the caller's own."""

from datetime import UTC, datetime

import numpy as np
import torch

from gossamer.engine import Network, weights_of


def provenance(network: Network) -> dict[str, str | float]:
    """Return what to remember of a network that is being written.

    Parameters
    ----------
    network
        As the file holds it.

    Returns
    -------
    dict
        "sparsity", the share of zeros among its weights; "torch", the version of PyTorch; and
        "written", the time in UTC by ISO 8601. Which gossamer wrote it the file says anyway.

    Examples
    --------
    >>> from gossamer.engine import Linear, pack_weights
    >>> layer = Linear(0, pack_weights(np.eye(4), "csr"))
    >>> provenance(Network((4,), (layer,), 1))["sparsity"]
    0.75
    """
    return {
        "sparsity": stored_sparsity(network),
        "torch": str(torch.__version__),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def stored_sparsity(network: Network) -> float:
    """Return the share of zeros among the weights of a network, 0 if it has none.

    Weights are counted as they stand, units that were removed no longer among them.

    Examples
    --------
    >>> stored_sparsity(Network((4,), (), 0))
    0.0
    """
    weights = [found for layer in network.layers if (found := weights_of(layer))]
    held = sum(int(np.count_nonzero(each.values)) for each in weights)
    every = sum(each.rows * each.columns for each in weights)
    return 1 - held / every if every else 0.0
