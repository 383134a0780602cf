"""Headers of version 1, as version 2 would write them.

Version 1 gave every field, and called the layout of weights their kind, "csr" being "sparse".
"""

from typing import Any

from gossamer.core.errors import InputError

_LAYOUTS = {"dense": "dense", "sparse": "csr", "block": "block"}


def from_version1(network: Any) -> Any:
    """Return the description of a network, as far as it is one, in the words of version 2.

    Examples
    --------
    >>> layer = {"type": "linear", "weights": {"kind": "sparse", "rows": 2}}
    >>> from_version1({"layers": [layer]})
    {'layers': [{'type': 'linear', 'weights': {'layout': 'csr', 'rows': 2}}]}
    """
    if not isinstance(network, dict) or not isinstance(network.get("layers"), list):
        return network
    return {**network, "layers": [_layer(layer) for layer in network["layers"]]}


def _layer(layer: Any) -> Any:
    if not isinstance(layer, dict) or not isinstance(layer.get("weights"), dict):
        return layer
    weights = dict(layer["weights"])
    kind = weights.pop("kind", None)
    if not isinstance(kind, str) or kind not in _LAYOUTS or "layout" in weights:
        raise InputError(f"weights are of kind {kind!r:.80}, expected dense, sparse or block.")
    return {**layer, "weights": {"layout": _LAYOUTS[kind], **weights}}
