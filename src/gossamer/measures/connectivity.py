"""What reaches the output, over all and by layer."""

from contextlib import suppress

from gossamer.core.errors import InputError
from gossamer.measures.measure import Measure, Measurement, Subject, Taken
from gossamer.measures.size import SIZE


def _take(subject: Subject) -> Taken:
    """Count what lies on a path to the output; nothing of a network that cannot tell.

    One that makes float32 tensors of its own, for instance, cannot run in float64; its layers are
    counted all the same.
    """
    from gossamer.measures.functional import count_layers, effective_weights

    reached = None
    with suppress(InputError):
        reached = effective_weights(subject.network, subject.example)
    layers = count_layers(subject.network, subject.prunable, reached)
    if reached is None or not all(layer.effective is not None for layer in layers):
        return Taken(layers=layers)
    sizes = subject.of(SIZE).numbers
    unreached = sum(layer.nonzero - (layer.effective or 0) for layer in layers)
    working = sum(layer.effective or 0 for layer in layers if layer.prunable)
    numbers = {
        "effective_parameters": sizes["nonzero_parameters"] - unreached,
        "effective_sparsity": 1 - working / sizes["prunable_parameters"],
    }
    return Taken(numbers, layers=layers)


_EMPTY = "paths through this network cannot be followed"
CONNECTIVITY = Measurement(
    "connectivity",
    take=_take,
    needs=(SIZE,),
    measures=(
        Measure(
            "effective_sparsity",
            "Effective sparsity",
            "Share of the prunable weights that are zero or lie on no path of non-zero weights "
            "from the input to the output, and so can no longer change the answer.",
            "fraction",
            empty=_EMPTY,
        ),
        Measure(
            "effective_parameters",
            "Effective parameters",
            "Parameters that are not zero and can still change the answer.",
            "parameters",
            empty=_EMPTY,
        ),
    ),
)
