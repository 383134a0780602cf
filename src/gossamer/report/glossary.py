"""What each measure of the page means, in one sentence each."""

from gossamer.report.aggregate import Results, comparisons

MEASURES: dict[str, tuple[str, str]] = {
    "test_accuracy": (
        "Test accuracy",
        "Share of the test examples whose largest output is the right class. The test set is "
        "touched once, when everything else is fixed.",
    ),
    "test_loss": ("Test loss", "Mean cross-entropy over the test examples, in nats."),
    "train_accuracy": (
        "Train accuracy",
        "The same share over the training examples, by the finished network in evaluation mode.",
    ),
    "train_loss": (
        "Train loss",
        "Mean cross-entropy over the training examples, by the finished network, in nats.",
    ),
    "sparsity_requested": (
        "Requested sparsity",
        "Share of the prunable weights that the recipe asks to be zero, in total.",
    ),
    "sparsity": (
        "Sparsity",
        "Share of the prunable weights (matrices and kernels, never biases or normalisation) "
        "that are zero, counted in the network.",
    ),
    "sparsity_all": (
        "Sparsity over all parameters",
        "Share of all parameters that are zero, unprunable ones included.",
    ),
    "effective_sparsity": (
        "Effective sparsity",
        "Share of the prunable weights that are zero or lie on no path of non-zero weights from "
        "the input to the output, and so can no longer change the answer.",
    ),
    "nonzero_parameters": ("Non-zero parameters", "Parameters that are not zero."),
    "bytes_compressed": (
        "Compressed size",
        "Bytes of the network stored with its non-zero weights only.",
    ),
    "macs_dense": (
        "Multiply-adds, dense",
        "Multiplications with addition for one example if zeros are computed too.",
    ),
    "macs_nonzero": (
        "Multiply-adds, non-zero",
        "The same if zero weights are skipped. It counts work, not time.",
    ),
}

INTERVAL = (
    "± and [ , ]",
    "95% confidence interval of a mean over seeds (Student's t). Paired differences are taken "
    "seed by seed, so that what two networks share falls out.",
)
POINT = ("Point", "One percent of the examples: from 97% to 96% is one point.")


def label(measure: str) -> str:
    """Return the name of a measure for a reader."""
    return MEASURES.get(measure, (measure.replace("_", " ").capitalize(), ""))[0]


def definitions(results: Results) -> list[tuple[str, str]]:
    """Terms of the page, those only that it uses."""
    used = {name for trial in results.done for name in results.records[trial.key].measures}
    used |= {one.measure for one in comparisons(results) if one.measured}
    terms = [text for name, text in MEASURES.items() if name in used]
    return [*terms, POINT, INTERVAL] if used else []
