"""Parameters, sparsity and bytes."""

from gossamer.measures.measure import Measure, Measurement, Subject, Taken


def _take(subject: Subject) -> Taken:
    from gossamer.measures.functional import size

    counted = size(subject.network, subject.prunable)
    return Taken(
        {
            "parameters": counted.parameters,
            "nonzero_parameters": counted.nonzero,
            "trainable_parameters": subject.trainable_parameters,
            "prunable_parameters": counted.prunable,
            "nonzero_prunable": counted.prunable_nonzero,
            "sparsity": counted.sparsity,
            "sparsity_requested": subject.sparsity_requested,
            "sparsity_all": counted.total_sparsity,
            "bytes_dense": counted.bytes_dense,
            "bytes_compressed": counted.bytes_compressed,
        }
    )


SIZE = Measurement(
    "size",
    take=_take,
    measures=(
        Measure(
            "parameters",
            "Parameters",
            "All parameters of the network; of a layer that stores only its connections, those of "
            "the dense layer that computes the same.",
            "parameters",
        ),
        Measure(
            "sparsity_requested",
            "Requested sparsity",
            "Share of the prunable weights that the recipe asks to be zero, in total.",
            "fraction",
        ),
        Measure(
            "sparsity",
            "Sparsity",
            "Share of the prunable weights (matrices and kernels, never biases or normalisation) "
            "that are zero, counted in the network.",
            "fraction",
        ),
        Measure(
            "sparsity_all",
            "Sparsity over all parameters",
            "Share of all parameters that are zero, unprunable ones included.",
            "fraction",
        ),
        Measure(
            "trainable_parameters",
            "Trainable parameters",
            "Parameters that training may change; a layer that stores only its connections counts "
            "only these.",
            "parameters",
        ),
        Measure(
            "nonzero_parameters",
            "Non-zero parameters",
            "Parameters that are not zero.",
            "parameters",
        ),
        Measure(
            "prunable_parameters",
            "Prunable parameters",
            "Weights that sparsity is the share of: matrices and kernels, less those that the "
            "recipe excludes.",
            "parameters",
        ),
        Measure(
            "nonzero_prunable",
            "Non-zero prunable parameters",
            "Those of them that are not zero.",
            "parameters",
        ),
        Measure(
            "bytes_dense", "Dense size", "Bytes of the network stored with its zeros.", "bytes"
        ),
        Measure(
            "bytes_compressed",
            "Compressed size",
            "Bytes of the network if each prunable weight is stored as its non-zeros and one bit a "
            "position; everything else as it is.",
            "bytes",
            better="lower",
        ),
    ),
)
