"""Multiply-adds of one example."""

from gossamer.measures.measure import Measure, Measurement, Subject, Taken


def _take(subject: Subject) -> Taken:
    from gossamer.measures.functional import multiply_adds

    found = multiply_adds(subject.network, subject.example)
    return Taken({"macs_dense": found.dense, "macs_nonzero": found.nonzero})


WORK = Measurement(
    "work",
    take=_take,
    measures=(
        Measure(
            "macs_dense",
            "Multiply-adds, dense",
            "Multiplications with addition for one example if zeros are computed too.",
            "multiply-adds",
        ),
        Measure(
            "macs_nonzero",
            "Multiply-adds, non-zero",
            "The same if zero weights are skipped. It counts work, not time.",
            "multiply-adds",
            better="lower",
        ),
    ),
)
