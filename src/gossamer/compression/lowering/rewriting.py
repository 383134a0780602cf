"""The graph of a model as it is lowered: recorded, then written in the operators' terms."""

from torch import nn

from gossamer.compression.lowering.attention import with_attention
from gossamer.compression.lowering.bags import with_bags
from gossamer.compression.lowering.batch_first import with_batch_first
from gossamer.compression.lowering.choices import with_choices
from gossamer.compression.lowering.extremes import with_extremes
from gossamer.compression.lowering.parts import Division, divide
from gossamer.compression.lowering.patterns import with_patterns
from gossamer.compression.lowering.ranking import with_ranks
from gossamer.compression.lowering.recurrence import with_recurrence
from gossamer.compression.lowering.recurrent_cells import with_joined_cells
from gossamer.compression.lowering.tracing import Trace, trace
from gossamer.graph.arguments import Arguments
from gossamer.graph.examples import Example


def to_lower(model: nn.Module, given: Example | Arguments) -> Trace:
    """Record a model and return its graph with the batch in front, ready to be lowered.

    Recurrent layers are one call for each layer and direction in it, and so are attention and
    normalisations that are written out. Bags of tokens are sums of what is looked up.

    Raises
    ------
    InputError
        If PyTorch cannot record it.
    """
    return _rewritten(trace(model, given))


def _rewritten(trace: Trace) -> Trace:
    recorded = with_ranks(with_extremes(with_bags(with_recurrence(with_joined_cells(trace)))))
    return with_attention(with_choices(with_patterns(with_batch_first(recorded))))


def divided(model: nn.Module, given: Example | Arguments) -> tuple[Trace, Division]:
    """Record a model, and find the parts of its graph that the runtime can compute.

    Raises
    ------
    InputError
        If PyTorch cannot record it.
    """
    traced = to_lower(model, given)
    division = divide(traced.graph)
    if division.rest and traced.decomposed is not None:
        traced = _rewritten(traced.decomposed())
        division = divide(traced.graph)
    return traced, division
