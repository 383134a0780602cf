"""Operations of a recorded network that draw random numbers.

A network that sets the seed itself gives the same answers each time, but what is made of its
recording does not: the seed is set by Python, which is not recorded.
"""

import torch
from torch import fx

from gossamer.compression.lowering.rules import arguments_by_name


def random_operations(graph: fx.Graph) -> tuple[str, ...]:
    """Return the names of the operations in a recorded graph that draw random numbers.

    Dropout that is off, as in evaluation mode, draws none.

    Examples
    --------
    >>> class Noisy(torch.nn.Module):
    ...     def forward(self, x):
    ...         return torch.dropout(x, 0.5, train=False) + torch.randn_like(x)
    >>> random_operations(torch.export.export(Noisy(), (torch.ones(2),)).graph)
    ('randn_like',)
    """
    return tuple(
        dict.fromkeys(str(n.target.overloadpacket.__name__) for n in filter(_draws, graph.nodes))
    )


def _draws(node: fx.Node) -> bool:
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    given = arguments_by_name(node)
    if not given.get("train", given.get("training", True)) or given.get("dropout") == 0:
        return False
    if "dropout_p" in given:  # scaled_dot_product_attention has no tag, those made of it have one
        return bool(given["dropout_p"])
    return torch.Tag.nondeterministic_seeded in node.target.tags
