"""Operations of a recorded network that draw random numbers.

A network that sets the seed itself gives the same answers each time, but what is made of its
recording does not: the seed is set by Python, which is not recorded.
"""

import torch
from torch import fx


def random_operations(graph: fx.Graph) -> tuple[str, ...]:
    """Return the names of the operations in a recorded graph that draw random numbers.

    Examples
    --------
    >>> class Noisy(torch.nn.Module):
    ...     def forward(self, x):
    ...         return x + torch.randn_like(x)
    >>> random_operations(torch.export.export(Noisy(), (torch.ones(2),)).graph)
    ('randn_like',)
    """
    drawing = dict.fromkeys(
        node.target.overloadpacket.__name__
        for node in graph.nodes
        if isinstance(node.target, torch._ops.OpOverload)
        and torch.Tag.nondeterministic_seeded in node.target.tags
    )
    return tuple(drawing)
