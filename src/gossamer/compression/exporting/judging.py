"""Whether what a file gives is what the network gives, up to rounding."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_BEYOND_PYTORCH = 4
"""How many times the rounding error of the network itself may be reached."""
_MOST = 1 / 8
"""Share of the largest number of an output beyond which no error is rounding."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What a network gives for a batch: the tensors of its output in its own precision and float64.

    `exact` is None where it runs in its own precision only, or that is float64.
    """

    inputs: Tensor
    plain: Sequence[Tensor]
    exact: Sequence[Tensor] | None


@dataclass(frozen=True)
class Verdict:
    """The largest difference relative to the largest number of its output, and what is wrong."""

    difference: float
    problem: str


def coarsest(model: nn.Module, answers: Sequence[Answer]) -> torch.dtype:
    """Return the coarsest floating-point type that a network holds, reads or gives.

    Examples
    --------
    >>> coarsest(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).half()), [])
    torch.float16
    """
    held = [*model.parameters(), *model.buffers()]
    held += [tensor for one in answers for tensor in (one.inputs, *one.plain)]
    types = {tensor.dtype for tensor in held if tensor.is_floating_point()}
    return max(types, key=lambda dtype: torch.finfo(dtype).eps, default=torch.float32)


def tolerance_of(precision: torch.dtype, has_exact: bool) -> float:
    """Return the largest difference, relative to the largest number of an output, of a right file.

    Against exact answers it is the machine epsilon to the power of 3/4: the rounding of some dozen
    operations in float32, and of a few in coarser types, in which sums are accumulated in float32.
    Where nothing more precise is known, both sides round, and it is the square root.

    Examples
    --------
    >>> [f"{tolerance_of(t, True):.1e}" for t in (torch.float32, torch.float16, torch.bfloat16)]
    ['6.4e-06', '5.5e-03', '2.6e-02']
    >>> f"{tolerance_of(torch.float64, False):.1e}"
    '1.5e-08'
    """
    epsilon = torch.finfo(precision).eps
    return float(epsilon ** (0.75 if has_exact else 0.5))


def judge(
    found: Sequence[Sequence[Tensor]],
    answers: Sequence[Answer],
    names: Sequence[str],
    precision: torch.dtype,
) -> Verdict:
    """Compare what a file gives for several batches with what the network gives.

    Parameters
    ----------
    found
        For each batch the outputs of the file.
    answers
        For each batch those of the network.
    names
        Of the outputs.
    precision
        The coarsest type in the network.
    """
    for given, answer in zip(found, answers, strict=True):
        if problem := _another_kind(given, answer, names):
            return Verdict(float("inf"), f"for a batch of {len(answer.inputs)}, {problem}")
    worst = 0.0
    for number, name in enumerate(names):
        deviation = _deviation([given[number] for given in found], answers, number)
        worst = max(worst, deviation.relative)
        if not deviation.error <= (allowed := deviation.allowed(precision)):
            share = allowed / deviation.largest if deviation.largest else 0.0
            return Verdict(
                worst,
                f"for a batch of {deviation.batch}, {name!r} differs by {deviation.relative:.2g} "
                f"of what is largest in it, where at most {share:.2g} was expected",
            )
    return Verdict(worst, "")


def _another_kind(given: Sequence[Tensor], answer: Answer, names: Sequence[str]) -> str:
    if len(given) != len(answer.plain):
        return f"it gives {len(given)} outputs, not {len(answer.plain)}"
    for name, one, expected in zip(names, given, answer.plain, strict=True):
        if one.shape != expected.shape or one.dtype != expected.dtype:
            return (
                f"{name!r} is {one.dtype} of shape {tuple(one.shape)}, not {expected.dtype} of "
                f"shape {tuple(expected.shape)}"
            )
    return ""


@dataclass(frozen=True)
class _Deviation:
    """Of one output the error of the file, that of the network itself, and the largest number.

    Of whole numbers and truth values the errors are how many differ, of `largest` in all.
    """

    error: float
    batch: int
    """Size of the batch with the largest error."""
    own: float
    largest: float
    rounds: bool
    has_exact: bool

    @property
    def relative(self) -> float:
        return self.error / self.largest if self.largest else self.error

    def allowed(self, precision: torch.dtype) -> float:
        """Return how large the error may be."""
        own = _BEYOND_PYTORCH * self.own
        if not self.rounds:
            return min(own, _MOST * self.largest)
        own = max(own, tolerance_of(precision, self.has_exact) * self.largest)
        return min(own, _MOST * self.largest)


def _deviation(found: Sequence[Tensor], answers: Sequence[Answer], number: int) -> _Deviation:
    plain = [answer.plain[number] for answer in answers]
    exact = [(answer.exact or answer.plain)[number] for answer in answers]
    rounds = plain[0].is_floating_point()
    measure = _rounded if rounds else _counted
    errors, own, largest = zip(*map(measure, found, plain, exact), strict=True)
    total = max if rounds else sum
    return _Deviation(
        error=total(errors),
        batch=len(answers[errors.index(max(errors))].inputs),
        own=total(own),
        largest=total(largest),
        rounds=rounds,
        has_exact=all(answer.exact is not None for answer in answers),
    )


def _counted(found: Tensor, plain: Tensor, exact: Tensor) -> tuple[float, float, float]:
    """Return how many differ, in the file and the network itself, and how many there are."""
    wrong = (found != plain) & (found != exact)
    return float(wrong.sum()), float((plain != exact).sum()), float(plain.numel())


def _rounded(found: Tensor, plain: Tensor, exact: Tensor) -> tuple[float, float, float]:
    """Return the largest error of the file, that of the network itself, and the largest number."""
    if not plain.numel():
        return 0.0, 0.0, 0.0
    plain, exact = plain.double(), exact.double()
    own = torch.where(plain.isfinite() & exact.isfinite(), (plain - exact).abs(), 0.0)
    size = torch.where(exact.isfinite(), exact.abs(), 0.0)
    return _largest_error(found.double(), plain, exact), float(own.max()), float(size.max())


def _largest_error(given: Tensor, plain: Tensor, exact: Tensor) -> float:
    """Return the largest error; what the network gives in its own precision is right as well."""
    right = torch.zeros_like(given, dtype=torch.bool)
    for reference in (plain, exact):
        right |= (given == reference) | (given.isnan() & reference.isnan())
    errors = torch.where(right, 0.0, (given - exact).abs())
    return float(errors.nan_to_num(torch.inf, torch.inf).max())
