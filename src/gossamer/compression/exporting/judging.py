"""Whether what a file gives is what the network gives, up to rounding."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gossamer.graph.arguments import Arguments

_BEYOND_PYTORCH = 4
"""How many times the rounding error of the network itself may be reached."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What a network gives for a batch: the tensors of its output in its own precision and float64.

    `exact` is None where it runs in its own precision only, or that is float64. `nearby` is what it
    gives where all numbers are moved by about as much as rounding moves them: where a network
    decides, as by rounding, comparing or sorting, that shows which entries rounding decides.
    """

    inputs: Arguments
    plain: Sequence[Tensor]
    exact: Sequence[Tensor] | None
    nearby: Sequence[Sequence[Tensor]] = ()


@dataclass(frozen=True)
class Verdict:
    """The largest difference relative to the largest number of its output, and what is wrong."""

    difference: float
    problem: str
    place: int = 0
    """Which batch shows it."""


def coarsest(model: nn.Module, answers: Sequence[Answer]) -> torch.dtype:
    """Return the coarsest floating-point type that a network holds, reads or gives.

    Examples
    --------
    >>> coarsest(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).half()), [])
    torch.float16
    """
    held = [*model.parameters(), *model.buffers()]
    held += [tensor for one in answers for tensor in (*one.inputs, *one.plain)]
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
    for place, (given, answer) in enumerate(zip(found, answers, strict=True)):
        if problem := _another_kind(given, answer, names):
            return Verdict(float("inf"), f"for a batch of {len(answer.inputs)}, {problem}", place)
    worst = 0.0
    for number, name in enumerate(names):
        deviation = _deviation([given[number] for given in found], answers, number, precision)
        worst = max(worst, deviation.relative)
        if not deviation.error <= (allowed := deviation.allowed(precision)):
            size = len(answers[deviation.place].inputs)
            problem = f"for a batch of {size}, {deviation.told(name, allowed)}"
            return Verdict(worst, problem, deviation.place)
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

    Of whole numbers and truth values the error is how many are wrong, of `largest` in all.
    """

    error: float
    place: int
    """Which batch has the largest error."""
    own: float
    largest: float
    rounds: bool
    has_exact: bool

    @property
    def relative(self) -> float:
        return self.error / self.largest if self.largest else self.error

    def allowed(self, precision: torch.dtype) -> float:
        """Return how large the error may be."""
        if not self.rounds:
            return 0.0
        fine = tolerance_of(precision, self.has_exact) * self.largest
        most = tolerance_of(precision, has_exact=False) * self.largest
        return min(max(_BEYOND_PYTORCH * self.own, fine), most)

    def told(self, name: str, allowed: float) -> str:
        """Return in words that the error of the output of some name is larger than that."""
        if not self.rounds:
            return (
                f"{self.error:,.0f} of {self.largest:,.0f} entries of {name!r} differ, though not "
                "by rounding"
            )
        share = allowed / self.largest if self.largest else 0.0
        return (
            f"{name!r} differs by {self.relative:.2g} of what is largest in it, where at most "
            f"{share:.2g} was expected"
        )


def _deviation(
    found: Sequence[Tensor], answers: Sequence[Answer], number: int, precision: torch.dtype
) -> _Deviation:
    plain = [answer.plain[number] for answer in answers]
    nearby = [[one[number] for one in answer.nearby] for answer in answers]
    exact = _references(answers, number, precision)
    if not plain[0].is_floating_point():
        errors = list(map(_wrong, found, plain, exact or plain, nearby))
        entries = float(sum(one.numel() for one in plain))
        place = errors.index(max(errors))
        return _Deviation(sum(errors), place, 0.0, entries, False, exact is not None)
    errors = list(map(_largest_error, found, plain, exact or plain, nearby))
    return _Deviation(
        error=max(errors),
        place=errors.index(max(errors)),
        own=max(map(_own_error, plain, exact or plain)),
        largest=max(map(_largest, exact or plain)),
        rounds=True,
        has_exact=exact is not None,
    )


def _references(
    answers: Sequence[Answer], number: int, precision: torch.dtype
) -> list[Tensor] | None:
    """Return an output in float64; None where that is farther away than rounding explains.

    A network may compute something else in float64, or decide otherwise.
    """
    exact = [answer.exact[number] for answer in answers if answer.exact is not None]
    plain = [answer.plain[number] for answer in answers]
    if len(exact) < len(plain):
        return None
    if any(one.shape != other.shape for one, other in zip(exact, plain, strict=True)):
        return None
    own = max(map(_own_error, plain, exact))
    most = tolerance_of(precision, has_exact=False) * max(map(_largest, plain))
    return exact if not plain[0].is_floating_point() or own <= most else None


def _wrong(found: Tensor, plain: Tensor, exact: Tensor, nearby: Sequence[Tensor]) -> float:
    """Return how many differ from all that the network gives."""
    wrong = (found != plain) & (found != exact)
    for one in nearby:
        if one.shape == found.shape:
            wrong &= found != one
    return float(wrong.sum())


def _own_error(plain: Tensor, exact: Tensor) -> float:
    plain, exact = plain.double(), exact.double()
    both = plain.isfinite() & exact.isfinite()
    return _most(torch.where(both, (plain - exact).abs(), 0.0))


def _largest(numbers: Tensor) -> float:
    numbers = numbers.double()
    return _most(torch.where(numbers.isfinite(), numbers.abs(), 0.0))


def _most(numbers: Tensor) -> float:
    return float(numbers.max()) if numbers.numel() else 0.0


def _largest_error(given: Tensor, plain: Tensor, exact: Tensor, nearby: Sequence[Tensor]) -> float:
    """Return the largest error; what the network gives in its own precision is right as well."""
    given, plain, exact = given.double(), plain.double(), exact.double()
    errors = (given - exact).abs()
    for one in nearby:
        if one.shape == given.shape:
            errors = errors.fmin((given - one.double()).abs())
    for reference in (plain, exact):
        errors[(given == reference) | (given.isnan() & reference.isnan())] = 0.0
    return _most(errors.nan_to_num(torch.inf, torch.inf))
