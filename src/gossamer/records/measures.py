"""The names of the numbers of attacks; `gossamer.measures` has all other measures."""

from itertools import product

READINGS = (
    *("auc", "balanced_accuracy"),
    *(f"{rate}@{fpr}" for rate, fpr in product(("tpr", "fpr", "curve_tpr"), ("0.01", "0.001"))),
)


def attack_reading(measure: str) -> tuple[str, str] | None:
    """Take the name of an attack's number apart; None for another measure.

    Which attacks there are, `gossamer.leakage.attacks` says.

    Examples
    --------
    >>> attack_reading("lira_online_curve_tpr@0.01"), attack_reading("test_accuracy")
    (('lira_online', 'curve_tpr@0.01'), None)
    """
    for reading in sorted(READINGS, key=len, reverse=True):
        if measure.endswith(f"_{reading}"):
            return measure.removesuffix(f"_{reading}"), reading
    return None
