"""What each measure of the page means, in one sentence each."""

from collections.abc import Iterable

from gossamer.leakage.attacks import ATTACKS, attack_of
from gossamer.records.measures import attack_reading
from gossamer.report.published_comparisons import comparisons
from gossamer.report.results import Results

MEASURES: dict[str, tuple[str, str]] = {
    "test_accuracy": (
        "Test accuracy",
        "Share of the test examples whose largest output is the right class. The test set is "
        "touched once, when everything else is fixed.",
    ),
    "test_loss": ("Test loss", "Mean cross-entropy over the test examples, in nats."),
    "test_examples": ("Test examples", "Number of the examples that the network is tested on."),
    "train_accuracy": (
        "Train accuracy",
        "Share of the training examples whose largest output is the right class, by the finished "
        "network in evaluation mode.",
    ),
    "train_loss": (
        "Train loss",
        "Mean cross-entropy over the training examples, by the finished network, in nats.",
    ),
    "train_examples": (
        "Train examples",
        "Number of the training examples that train accuracy and loss are taken over; a sample "
        "where the study asks for one.",
    ),
    "parameters": (
        "Parameters",
        "All parameters of the network; of a layer that stores only its connections, those of the "
        "dense layer that computes the same.",
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
    "effective_parameters": (
        "Effective parameters",
        "Parameters that are not zero and can still change the answer.",
    ),
    "trainable_parameters": (
        "Trainable parameters",
        "Parameters that training may change; a layer that stores only its connections counts "
        "only these.",
    ),
    "nonzero_parameters": ("Non-zero parameters", "Parameters that are not zero."),
    "prunable_parameters": (
        "Prunable parameters",
        "Weights that sparsity is the share of: matrices and kernels, less those that the recipe "
        "excludes.",
    ),
    "nonzero_prunable": ("Non-zero prunable parameters", "Those of them that are not zero."),
    "bytes_dense": ("Dense size", "Bytes of the network stored with its zeros."),
    "bytes_compressed": (
        "Compressed size",
        "Bytes of the network if each prunable weight is stored as its non-zeros and one bit a "
        "position; everything else as it is.",
    ),
    "macs_dense": (
        "Multiply-adds, dense",
        "Multiplications with addition for one example if zeros are computed too.",
    ),
    "macs_nonzero": (
        "Multiply-adds, non-zero",
        "The same if zero weights are skipped. It counts work, not time.",
    ),
    "latency": (
        "Latency",
        "Time to predict one batch, in seconds, with the network as gossamer.compress makes it: "
        "measured alone, warm, the median over repeats. That of an unpruned network is the time of "
        "its fastest way.",
    ),
    "latency_masked": (
        "Latency with zeros kept",
        "The same with the network as it is, in PyTorch, which computes its zeros too.",
    ),
    "latency_dense": (
        "Latency of the unpruned network",
        "That of the unpruned network of the same seed, timed in turn, in its fastest way: in "
        "PyTorch, or by gossamer's engine on all weights.",
    ),
    "latency_ratio": (
        "Relative latency",
        "Latency over that of the unpruned network; 100% if nothing is gained. A time is compared "
        "with one that was taken in turn with it, so that no drift of the machine enters.",
    ),
    "latency_ratio_masked": (
        "Relative latency with zeros kept",
        "Time with the zeros kept over that of the unpruned network, both in PyTorch.",
    ),
    "running_train_accuracy": (
        "Running training accuracy",
        "Share of right answers over the last epoch, under augmentation and dropout, while the "
        "weights change.",
    ),
    "running_train_loss": (
        "Running training loss",
        "Mean cross-entropy over the last epoch, under augmentation and dropout, in nats.",
    ),
    "validation_accuracy": (
        "Validation accuracy",
        "Share of the validation examples that are classified correctly after the last epoch.",
    ),
    "validation_loss": (
        "Validation loss",
        "Mean cross-entropy over the validation examples after the last epoch, in nats.",
    ),
    "validation_gain_second_half": (
        "Gain of validation accuracy in the second half",
        "Validation accuracy after the last epoch minus that after half of the epochs.",
    ),
    "mask_overlap": (
        "Mask overlap",
        "Of the weights that either of two masks keeps, the share that both keep (Jaccard index).",
    ),
    "mask_overlap_by_chance": (
        "Mask overlap by chance",
        "What two masks with as many weights in each layer, at random positions, would share.",
    ),
    "gap_attack_accuracy": (
        "Gap attack accuracy (floor)",
        "Accuracy of accusing whatever is classified correctly: 1/2 + (train - test accuracy)/2.",
    ),
    "best_threshold_attack_accuracy": (
        "Attack accuracy as meant (optimistic)",
        "Balanced accuracy of one threshold on the probability of the true class, members the "
        "training set, non-members the test set. The threshold is chosen on the very scores that "
        "it judges, so the number flatters the attacker.",
    ),
    "one_hot_attack_accuracy": (
        "Attack accuracy as the published code computes it (defective)",
        "A number that the published code's indexing error produces; it measures no attack and "
        "stands here only so that the published figure can be traced to the error.",
    ),
}

READINGS = {
    "auc": "AUC",
    "balanced_accuracy": "Balanced accuracy",
    "tpr": "TPR",
    "fpr": "Realised FPR",
    "curve_tpr": "TPR on the ROC curve",
}
LEAKAGE = (
    (
        "Member",
        "An example that the network under attack was trained on. An attack scores every example "
        "and accuses those above a threshold of being members.",
    ),
    (
        "TPR, FPR",
        "True- and false-positive rate: the share of members, and of non-members, that an attack "
        "accuses. At 0.1% FPR it may accuse 1 in 1,000 innocents.",
    ),
    (
        "Balanced accuracy of an attack",
        "Mean of the TPR and 1 - FPR at a threshold that was fixed on other data; 50% is guessing.",
    ),
    (
        "AUC",
        "Area under the ROC curve: the probability that a random member scores higher than a "
        "random non-member; 0.5 is guessing.",
    ),
    (
        "Shadow networks",
        "Networks that an attacker trains to learn how members differ from others. In a study "
        "they are the networks of the other seeds, trained on complementary halves of the pool.",
    ),
)

INTERVAL = (
    "± and [ , ]",
    "95% confidence interval of a mean over seeds (Student's t). Paired differences are taken "
    "seed by seed, so that what two networks share falls out. Accuracies move in steps of one "
    "example: where all seeds agree, their spread counts as that of rounding to one.",
)
VERDICTS = (
    (
        "Margin",
        "The smallest difference that matters, which every claim states. Each claim has its "
        "threshold there: “higher” says higher by more than the margin, “lower” lower by more; "
        "“not lower” says lower by less than the margin, if at all, “not higher” higher by less; "
        "“on a par” says a difference of less than the margin, either way. With a margin of 0 "
        "“higher” and “lower” are about the direction alone.",
    ),
    (
        "Supported, refuted, undecided",
        "Supported: the whole interval lies where the claim says. Refuted: the whole interval lies "
        "on the other side of the threshold, as that of a rise does that is there but smaller "
        "than the margin. Undecided: the interval holds the threshold. With ever more seeds every "
        "claim gets the verdict of the true difference.",
    ),
)
POINT = ("Point", "One percent of the examples: from 97% to 96% is one point.")
TABLE = (
    "results.csv",
    "A line a trial with every number that is known of it, in full precision. What each column "
    "holds stands below.",
)
PAIRS = (
    "Pair of seeds",
    "Two networks trained on complementary halves of the pool. They are not independent, so the "
    "pair is what every interval counts.",
)


def label(measure: str) -> str:
    """Return the name of a measure for a reader.

    Examples
    --------
    >>> label("test_accuracy"), label("lira_online_tpr@0.01"), label("mask_overlap:conv1.weight")
    ('Test accuracy', 'TPR at 1% FPR of LiRA online', 'Mask overlap of conv1.weight')
    """
    if measure in MEASURES:
        return MEASURES[measure][0]
    name, _, part = measure.partition(":")
    if part and name in MEASURES:
        return f"{MEASURES[name][0]} of {part}"
    return _attack_label(measure) or measure.replace("_", " ").capitalize()


def _attack_label(measure: str) -> str:
    """Return the name of an attack's number, such as "lira_online_auc"; empty for another."""
    attack, found = attack_of(measure), attack_reading(measure)
    if attack is None or found is None:
        return ""
    reading, _, rate = found[1].partition("@")
    at = f" at {100 * float(rate):g}% FPR" if rate else ""
    return f"{READINGS[reading]}{at} of {attack.phrase}"


def attack_meanings(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return what some attacks do, by their labels, in the order of the attacks."""
    some = set(names)
    return [(a.label, f"{a.meaning} ({a.source})") for n, a in ATTACKS.items() if n in some]


def definitions(results: Results) -> list[tuple[str, str]]:
    """Terms of the page, those only that it uses."""
    used = {name for key in results.records for name in results.measures.get(key, {})}
    used |= {one.measure for one in comparisons(results) if one.measured}
    terms = [text for name, text in MEASURES.items() if name in used]
    attacked = [a.name for joint in results.joints for a in joint.attacked]
    if attacked:
        terms += [*LEAKAGE, *attack_meanings(attacked)]
    pairs = [PAIRS] if results.study.paired else []
    verdicts = VERDICTS if results.study.claims else ()
    return [*terms, POINT, INTERVAL, *pairs, *verdicts, TABLE] if used else []
