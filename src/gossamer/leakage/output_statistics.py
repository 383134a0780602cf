"""What an attacker reads off one model about one example: a few numbers instead of all logits."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gossamer.core.arrays import StoredArray, rows_of
from gossamer.core.errors import InputError
from gossamer.core.labels import read_labels
from gossamer.leakage.given_arrays import checked_logits, checked_shape

Labels = NDArray[np.integer[Any]]
Values = NDArray[np.float32]

LEAST_PROBABILITY = 2.0**-149
"""A probability of 0 is read as this, the smallest positive float32 (as in the code of LiRA), so
that margins of probabilities stay within about 103 nats."""

SUM_TOLERANCE = 1e-3
"""How far probabilities may be from summing to one; half precision needs this much."""

_WIDEST = 1e38
"""Between a row's logits: margins, kept in float32, are finite with room to spare."""

_CHUNK = 2**16
"""Logits worked on at a time: temporaries stay in the cache whatever the input."""


@dataclass(frozen=True)
class Statistics:
    """Four numbers a model and example, in float32: 16 bytes where 10 logits take 40.

    All are arrays ``[models, examples]``, in nats. For 16 models, 10 sparsities and 70,000
    examples that is 180 MB.
    """

    margin: Values
    """The logit of the true class minus the log-sum-exp of the others: log(p / (1 - p))."""
    lead: Values
    """The logit of the true class minus the highest other one."""
    entropy: Values
    """Entropy of the predicted distribution."""
    modified_entropy: Values
    """Song's and Mittal's entropy, which also knows whether the prediction is right."""

    def __post_init__(self) -> None:
        for field in fields(self):
            array = getattr(self, field.name)
            if array.ndim != 2 or array.shape != self.margin.shape:
                raise InputError(
                    f"statistics: {field.name} has the shape {array.shape}, expected one number "
                    "a model and example, the same [models, examples] for all four."
                )
            if not np.isfinite(array).all():
                raise InputError(f"statistics: {field.name} holds NaN or infinity.")

    @property
    def models(self) -> int:
        """Number of models."""
        return len(self.margin)

    @property
    def examples(self) -> int:
        """Number of examples."""
        return int(self.margin.shape[1])

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether the prediction is right, ``[models, examples]``; a tie for the first is not."""
        return self.lead > 0

    @property
    def log_probability(self) -> NDArray[np.float64]:
        """Log-probability of the true class, minus the loss, ``[models, examples]``."""
        return -np.logaddexp(0.0, -self.margin.astype(np.float64))

    def select(self, examples: NDArray[np.intp]) -> "Statistics":
        """Return the statistics of some of the examples."""
        return Statistics(*(getattr(self, field.name)[:, examples] for field in fields(self)))

    def of_models(self, models: NDArray[np.intp]) -> "Statistics":
        """Return the statistics of some of the models."""
        return Statistics(*(getattr(self, field.name)[models] for field in fields(self)))

    @staticmethod
    def stack(parts: Sequence["Statistics"]) -> "Statistics":
        """Put the models of several statistics of the same examples below one another.

        Raises
        ------
        InputError
            If there are none, or they are of different numbers of examples.
        """
        sizes = sorted({part.examples for part in parts})
        if len(sizes) != 1:
            raise InputError(
                f"statistics: to be stacked are parts of {sizes} examples, expected at least one "
                "part, all of the same examples."
            )
        names = [field.name for field in fields(Statistics)]
        return Statistics(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))


def statistics(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    probabilities: bool = False,
    temperature: float = 1.0,
) -> Statistics:
    """Reduce logits to what the attacks need, computed in float64 and kept in float32.

    Parameters
    ----------
    logits
        ``[examples, classes]`` of one model or ``[models, examples, classes]``; finite.
    labels
        True classes, ``[examples]``, whole numbers from 0; see `gossamer.core.labels.read_labels`.
    probabilities
        The first argument holds probabilities: rows from 0 to 1 that sum to one. A probability
        of 0 is read as `LEAST_PROBABILITY`; nothing else is clipped.
    temperature
        What logits, or logarithms of probabilities, are divided by.

    Returns
    -------
    Statistics
        ``[models, examples]``, with one model for two-dimensional logits.

    Raises
    ------
    InputError
        If a shape or a number is not as described.

    References
    ----------
    Carlini et al. (2022), "Membership inference attacks from first principles", IEEE S&P (the
    margin); Song and Mittal (2021), "Systematic evaluation of privacy risks of machine learning
    models", USENIX Security (the modified entropy).

    Examples
    --------
    >>> found = statistics([[2.0, 0.0], [0.0, 0.0]], [0, 1])
    >>> found.margin.tolist(), found.correct.tolist()
    ([[2.0, 0.0]], [[True, False]])
    >>> same = statistics([[0.75, 0.25]], [0], probabilities=True)
    >>> round(float(same.margin[0, 0]), 6) == round(float(np.log(3)), 6)
    True
    """
    array = checked_logits(logits, "probabilities" if probabilities else "logits")
    return Statistics.stack(
        list(model_statistics(array, labels, probabilities=probabilities, temperature=temperature))
    )


def model_statistics(
    logits: NDArray[Any] | StoredArray,
    labels: ArrayLike,
    *,
    probabilities: bool = False,
    temperature: float = 1.0,
) -> Iterator[Statistics]:
    """Yield the `statistics` of one model after the other; of what is stored, little is held.

    Raises
    ------
    InputError
        As `statistics` does.
    """
    name = "probabilities" if probabilities else "logits"
    models, examples, count = checked_shape(logits.shape, logits.dtype, name)
    classes = read_labels("labels", labels, examples, classes=count, models=models)
    most = max(1, _CHUNK // count)
    blocks = logits.rows(most) if isinstance(logits, StoredArray) else rows_of(logits, most)
    for model in range(models):
        found = np.empty((4, 1, examples), dtype=np.float32)
        normalised = not probabilities
        for start in range(0, examples, most):
            with np.errstate(over="ignore"):  # of more than 64 bits
                block = next(blocks).astype(np.float64)
            place = _Place(name, model, start)
            _check_numbers(block, place)
            normalised = normalised and _normalised(block)
            if probabilities:
                block = np.log(np.maximum(block, LEAST_PROBABILITY))
            with np.errstate(over="ignore"):
                block /= temperature
                _check_spread(block, place)
            found[:, 0, start : start + most] = _reduce(block, classes[start : start + most])
        if normalised:
            raise InputError(
                f"logits: every row of model {model} lies from 0 to 1 and sums to one, which makes "
                "them probabilities, expected what comes before the softmax; rename the array to "
                "probabilities, or pass probabilities=True."
            )
        yield Statistics(*found)
    for _ in blocks:  # none is left: only now is what is stored held against its checksum
        pass


def different(parts: Iterable[Statistics]) -> Iterator[Statistics]:
    """Yield statistics of one model each, as long as each can be a trained network of its own.

    Raises
    ------
    InputError
        If one says the same of every example, or two say the same: the copy of a target as
        reference would be the target itself.
    """
    seen: dict[bytes, int] = {}
    for model, part in enumerate(parts):
        margins = part.margin[0]
        if margins.min() == margins.max():
            raise InputError(
                f"predictions: model {model} says the same of every example (its margin is always "
                f"{float(margins[0]):.4g}), expected the outputs of a trained network."
            )
        first = seen.setdefault(hashlib.sha256(margins.tobytes()).digest(), model)
        if first != model:
            raise InputError(
                f"predictions: models {first} and {model} have the same margin for every example, "
                "expected different models; if one was saved twice, leave one out."
            )
        yield part


def _normalised(block: NDArray[np.float64]) -> bool:
    """Whether rows, ``[examples, classes]``, are all such as a softmax makes."""
    within = block.min() >= 0 and block.max() <= 1
    return bool(within and (np.abs(block.sum(axis=1) - 1) <= SUM_TOLERANCE).all())


@dataclass(frozen=True)
class _Place:
    """Where a block of rows is from."""

    name: str
    model: int
    start: int
    """The example of its first row."""

    def complain(self, right: ArrayLike, what: str) -> None:
        """Complain of the first row that is not right, if there is one."""
        if not np.all(right):
            row = self.start + int(np.argmin(right))
            raise InputError(f"{self.name}: model {self.model}, example {row} {what}.")


def _check_spread(block: NDArray[np.float64], place: _Place) -> None:
    """Refuse logits so far apart that their margins exceed float32."""
    place.complain(
        block.max(axis=1) - block.min(axis=1) <= _WIDEST,
        f"has logits more than {_WIDEST:.0e} times the temperature apart, expected the outputs of "
        "a trained network",
    )


def _check_numbers(block: NDArray[np.float64], place: _Place) -> None:
    place.complain(np.isfinite(block).all(axis=1), "holds NaN or infinity, expected finite numbers")
    if place.name == "probabilities":
        hint = (
            "expected probabilities; if these are logits, rename the array to logits, or leave "
            "probabilities=True out"
        )
        place.complain(block.min(axis=1) >= 0, f"holds a negative number, {hint}")
        place.complain(
            np.abs(block.sum(axis=1) - 1) <= SUM_TOLERANCE,
            f"does not sum to one (within {SUM_TOLERANCE}), {hint}",
        )


def _reduce(logits: NDArray[np.float64], labels: Labels) -> NDArray[np.float64]:
    """Return margin, lead, entropy and modified entropy, ``[4, examples]``."""
    rows = np.arange(len(labels))
    shifted = logits - logits.max(axis=1, keepdims=True)
    weights = np.exp(shifted)
    log_total = np.log(weights.sum(axis=1))
    own = shifted[rows, labels]
    entropy = log_total - (weights * shifted).sum(axis=1) / np.exp(log_total)
    modified = _modified_entropy(weights, log_total, own, labels)
    shifted[rows, labels] = -np.inf
    highest = shifted.max(axis=1)
    others = highest + np.log(np.exp(shifted - highest[:, None]).sum(axis=1))
    return np.stack([own - others, own - highest, entropy, modified])


def _modified_entropy(
    weights: NDArray[np.float64],
    log_total: NDArray[np.float64],
    own: NDArray[np.float64],
    labels: Labels,
) -> NDArray[np.float64]:
    """-(1 - p_y) log p_y - sum over the other classes of p log(1 - p).

    ``1 - p`` of the most probable class is summed from the others, as subtraction would lose it.
    """
    rows = np.arange(len(labels))
    probabilities = weights / np.exp(log_total)[:, None]
    top = weights.argmax(axis=1)
    probable = probabilities[rows, top]
    probabilities[rows, top] = 0.0
    rest = np.maximum(probabilities.sum(axis=1), np.finfo(np.float64).tiny)
    log_complement = np.log1p(-probabilities)
    log_complement[rows, top] = np.log(rest)
    probabilities[rows, top] = probable
    right = top == labels
    own_complement = np.where(right, rest, 1 - probabilities[rows, labels])
    probabilities[rows, labels] = 0.0
    modified: NDArray[np.float64] = own_complement * (log_total - own) - (
        probabilities * log_complement
    ).sum(axis=1)
    return modified
