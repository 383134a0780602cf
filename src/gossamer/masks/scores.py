"""Scores: how much weights matter. Those of lowest score go first.

A score is a function from what there is to know of a layer, a `ScoreContext`, to the saliency of
its weights, and a row of `SCORES`. How a group of weights is compared is its `reduce`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gossamer.core.errors import InputError
from gossamer.masks.allocations import Compared

if TYPE_CHECKING:
    from torch import Tensor

    from gossamer.masks.saliency import Groups, Members, ScoreContext, Solution


def weight(context: "ScoreContext") -> "Tensor":
    """Return the weights themselves, of which `reduce` makes what is compared."""
    return context.weight


def norm(groups: "Groups") -> "Tensor":
    """Return the L2 norm of each group: ``|w|`` of a single weight."""
    return groups.norms


def minus_norm(groups: "Groups") -> "Tensor":
    """Return the L2 norm of each group with a minus sign, so that the largest go first."""
    return -groups.norms


def rms(groups: "Groups") -> "Tensor":
    """Return the root mean square of each group: its L2 norm over the root of its size.

    For a unit that size is its fan-in, with which its norm grows.
    """
    return groups.norms / groups.sizes.double().sqrt()


def relative_rms(groups: "Groups") -> "Tensor":
    """Return the root mean square of each group, over that of all weights of its layer.

    Root mean squares alone differ from layer to layer by how a library starts them: Kaiming's
    fan-out gives wide layers small weights, and across layers whole ones would go first. Over that
    of the layer one says how much a group counts among its like.
    """
    of_layer = (groups.norms.double().square().sum() / groups.sizes.sum()).sqrt()
    return rms(groups) / of_layer


def lamp(groups: "Groups") -> "Tensor":
    """Return the squared norm of each group, over the sum of those of its layer that are no less.

    So a layer is pruned by magnitude, and a score is the share that a group has of what would be
    left of its layer: the largest has 1, and so no layer is emptied while another has a choice.
    Of groups of one norm those that stand first go first.
    """
    squares, order = groups.norms.double().square().sort(stable=True)
    left = squares.flip(0).cumsum(0).flip(0)
    shares = squares / left.where(left > 0, left.new_ones(()))  # of a layer of zeros none is left
    return shares.scatter(0, order, shares)


def drawn(groups: "Groups") -> "Tensor":
    """Return a number for each group, uniformly at random."""
    return groups.drawn()


def taylor(context: "ScoreContext") -> "Tensor":
    """Return gradient x weight: by how much the loss changes, to first order, without it."""
    return context.gradient * context.weight


def squared_sum(groups: "Groups") -> "Tensor":
    """Return the square of the sum of each group: what its weights change cancels or adds up."""
    return groups.sums.double().square()


def gradient(context: "ScoreContext") -> "Tensor":
    """Return the magnitude of the gradient."""
    return context.gradient.abs()


def snip(context: "ScoreContext") -> "Tensor":
    """Return ``|gradient x weight|``, the sensitivity of the loss to the weight's connection."""
    return (context.gradient * context.weight).abs()


def grasp(context: "ScoreContext") -> "Tensor":
    """Return weight x (H g), half of what the squared norm of the gradient loses without it.

    The paper's score is minus this, and the highest of it go.
    """
    return context.weight * context.hessian_gradient


def synflow(context: "ScoreContext") -> "Tensor":
    """Return ``|w|`` times the derivative of the synaptic flow: what flows through the weight."""
    return context.weight.abs() * context.synaptic_flow


def wanda(context: "ScoreContext") -> "Tensor":
    """Return ``|w|`` times the L2 norm of the inputs that the weight multiplies."""
    return context.weight.abs() * context.input_norms


def sparsegpt(context: "ScoreContext") -> "Solution":
    """Return which weights go, column by column, and what makes up for them in the others."""
    from gossamer.masks.reconstruction import reconstructed  # which needs torch

    return reconstructed(context)


def mean(groups: "Groups") -> "Tensor":
    """Return the mean of each group: what pruning it costs for each weight that it takes away."""
    return groups.sums / groups.sizes.to(groups.sums.device)


def averaged(members: "Members") -> "Tensor":
    """Return the mean over all weights that go together from the means of units."""
    return members.total(members.sizes * members.values) / members.total(members.sizes)


def added(members: "Members") -> "Tensor":
    """Return the sum over the units that go together."""
    return members.total(members.values)


def root_of_squares(members: "Members") -> "Tensor":
    """Return the norm of all units that go together from their own, whatever their sign."""
    squares = members.total(members.values * members.values.abs())
    return squares.sign() * squares.abs().sqrt()


def mean_of_squares(members: "Members") -> "Tensor":
    """Return the root mean square over all weights that go together from those of units."""
    squares = members.total(members.sizes * members.values.square())
    return (squares / members.total(members.sizes)).sqrt()


def first(members: "Members") -> "Tensor":
    """Return the number of the first of the units that go together."""
    return members.first


Needs = Literal["nothing", "example", "gradients", "inputs"]


@dataclass(frozen=True)
class Score:
    """How much the weights of a layer matter, and how groups of them are compared.

    Parameters
    ----------
    function
        From what there is to know of a layer, a `ScoreContext`, to the saliency of its weights, of
        their shape. The lowest go first. With `changes_weights` to a `Solution`.
    reduce
        From that saliency, group by group, to the numbers that are compared, ``[groups]``; the
        mean of each group where nothing else is said.
    join
        From these numbers of units of several layers that go together to one of all their weights;
        the mean where nothing else is said.
    needs
        What it asks of batches; "example" where it asks only what the network takes.
    compares
        Among which weights single ones are compared at most: "unit" for those of a unit alone,
        whatever the allocation says. Groups of several weights are compared within a layer then.
    by_batch
        Whether what is compared is worked out for each batch, from its gradient alone, and the
        mean over all examples taken then.
    rounds
        In how many rounds weights go, each scored anew without what went before; from round to
        round the same share of what is left. Of n of each m weights all go at once.
    temperature
        What the outputs are divided by before their cross entropy, where no loss is given.
    changes_weights
        Whether it chooses itself which single weights of a layer go, and gives the others new
        values: its function returns both, a `Solution`. The other layers are as they were.
    summary
        What it is, for tables of scores.

    Examples
    --------
    >>> import torch
    >>> from gossamer import prune
    >>> model = torch.nn.Linear(3, 1)
    >>> model.weight.data = torch.tensor([[1.0, -2.0, 3.0]])
    >>> prune(model, 1 / 3, score=lambda context: context.weight)["weight"].tolist()
    [[True, False, True]]
    """

    function: "Callable[[ScoreContext], Tensor | Solution]"
    reduce: "Callable[[Groups], Tensor]" = mean
    join: "Callable[[Members], Tensor]" = averaged
    needs: Needs = "nothing"
    compares: Compared = "network"
    by_batch: bool = False
    rounds: int = 1
    temperature: float = 1.0
    changes_weights: bool = False
    summary: str = ""

    def __post_init__(self) -> None:
        if self.changes_weights and (self.rounds > 1 or self.by_batch):
            raise InputError(
                f"the score {self.called} changes weights, so it must be done in one round and not "
                "batch by batch"
            )

    @property
    def needs_batches(self) -> bool:
        """Whether it asks anything of batches."""
        return self.needs in ("gradients", "inputs")

    @property
    def called(self) -> str:
        """Its name, of one that is registered; else the name of its function."""
        names = [name for name, score in SCORES.items() if score == self]
        whose = getattr(self.function, "__module__", None)
        name = getattr(self.function, "__qualname__", type(self.function).__name__)
        return names[0] if names else f"{whose}.{name}"


SCORES: dict[str, Score] = {
    "magnitude": Score(
        weight, norm, root_of_squares,
        summary="L2 norm, |w| of a single weight (Han et al. 2015, arXiv 1506.02626)"
    ),
    "rms": Score(
        weight, rms, mean_of_squares, summary="root mean square: the norm over the root of the size"
    ),
    "relative-rms": Score(
        weight, relative_rms, mean_of_squares,
        summary="root mean square over that of the whole layer"
    ),
    "largest": Score(
        weight, minus_norm, root_of_squares, summary="largest norm first; a control"
    ),
    "random": Score(weight, drawn, first, summary="uniformly at random; a control"),
    "lamp": Score(
        weight, lamp,
        summary="squared norm over the sum of those of its layer that are no less (Lee et al. "
        "2021, arXiv 2010.07611)",
    ),
    "taylor": Score(
        taylor, squared_sum, added, needs="gradients", by_batch=True,
        summary="(gradient x weight) squared, of a group the square of the sum, of each batch, and "
        "their mean: the change of the loss to first order (Molchanov et al. 2019, arXiv "
        "1906.10771)",
    ),
    "gradient": Score(
        gradient, needs="gradients", summary="magnitude of the gradient, of a group the mean"
    ),
    "snip": Score(
        snip, needs="gradients",
        summary="|gradient x weight|, of a group the mean; of an untrained network (Lee et al. "
        "2019, arXiv 1810.02340)",
    ),
    "grasp": Score(
        grasp, needs="gradients", temperature=200.0,
        summary="weight x (H g), what is lost of the gradient g's flow, of a group the mean; of an "
        "untrained network, by default with logits over 200 as the authors' (Wang et al. 2020, "
        "arXiv 2002.07376)",
    ),
    "synflow": Score(
        synflow, needs="example", rounds=100,
        summary="|w| x what flows through it where all weights are positive and all inputs 1, in "
        "100 rounds, of a group the mean; of an untrained network (Tanaka et al. 2020, arXiv "
        "2006.05467)",
    ),
    "wanda": Score(
        wanda, needs="inputs", compares="unit",
        summary="|w| x L2 norm of the inputs that it multiplies, compared within each unit, of "
        "a group the mean (Sun et al. 2023, arXiv 2306.11695)",
    ),
    "sparsegpt": Score(
        sparsegpt, needs="inputs", compares="layer", changes_weights=True,
        summary="w^2 over the diagonal of the inverse of X X^T, of the inputs X that a row "
        "multiplies and of the columns that are left, in blocks of 128 columns; **it changes the "
        "weights that stay**, those to the right, so that outputs stay close (Frantar and Alistarh "
        "2023, arXiv 2301.00774)",
    ),
}  # fmt: skip
"""All that can be named; one more is one more row."""


def resolved_score(given: "str | Score | Callable[[ScoreContext], Tensor]") -> Score:
    """Return the score of a name or of a function; a score is itself.

    Raises
    ------
    InputError
        If there is no such score.
    """
    if isinstance(given, Score):
        return given
    if callable(given):
        return Score(given)
    if not isinstance(given, str) or given not in SCORES:
        raise InputError(
            f"unknown score {given!r}: choose one of {', '.join(SCORES)}, or give a function"
        )
    return SCORES[given]
