"""The search for a mask: of what is compared the lowest go, as many as an allocation says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from gossamer.core.errors import InputError
from gossamer.graph.capture import Structure
from gossamer.masks.allocations import Allocation, Compared, partway
from gossamer.masks.attached import attached_parameters
from gossamer.masks.calibration import Calibration
from gossamer.masks.coupling import Coupling
from gossamer.masks.layers import PrunableWeight, excluded_parameters
from gossamer.masks.mask import Mask
from gossamer.masks.names import parameters_by_name
from gossamer.masks.patterns import Pattern, Unit
from gossamer.masks.saliency import ScoreContext, ranked, solved
from gossamer.masks.scores import Score
from gossamer.masks.selection import across_layers, within_layers, within_runs, within_units


@dataclass(frozen=True, eq=False)
class Found:
    """What a search leads to."""

    mask: Mask
    examples: int | None
    """How many examples the score has seen; None if it asked for none."""
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    """What weights become, by name, of a score that changes them."""


@dataclass(frozen=True, eq=False)
class Search:
    """What is compared, among which weights, and how many of them go."""

    root: nn.Module
    structure: Structure
    exclude: str | Sequence[str]
    layers: list[PrunableWeight]
    tied: Coupling | None
    score: Score
    pattern: Pattern
    allocation: Allocation
    sparsity: float | None
    seed: int

    def run(self, calibration: Calibration) -> Found:
        """Return the mask that all rounds of the score find."""
        if self.score.changes_weights:
            return self._solved(calibration)
        rounds = 1 if self.pattern.run is not None else self.score.rounds
        mask = self._mask(calibration, 1 / rounds)
        for number in range(2, rounds + 1):
            calibration = calibration.pruned_by(mask)
            mask = self._mask(calibration, number / rounds)
        return Found(mask, calibration.examples)

    def _solved(self, calibration: Calibration) -> Found:
        """Return what a score leads to that changes weights, layer by layer."""
        _refuse_to_change_weights_for(self.score, self.pattern, self.allocation)
        contexts = [ScoreContext(layer, calibration, pattern=self.pattern) for layer in self.layers]
        sparsities = self.allocation.asked(contexts, self.sparsity or 0.0)
        solutions = {
            context.layer.name: solved(replace(context, sparsity=sparsity), self.score)
            for context, sparsity in zip(contexts, sparsities, strict=True)
        }
        kept = {name: one.kept.cpu() for name, one in solutions.items()}
        weights = {name: one.weight for name, one in solutions.items()}
        return Found(self._as_mask(kept), calibration.examples, weights)

    def _mask(self, calibration: Calibration, share: float) -> Mask:
        """Return the mask after a share of the rounds."""
        kept = [~groups for groups in self._weakest(calibration, share)]
        attached = {}
        if isinstance(self.pattern, Unit):
            attached = _attached(
                self.root, self.layers, kept, self.exclude, self.structure, self.tied
            )
        named = zip(self.layers, kept, strict=True)
        spread = {layer.name: self.pattern.spread(groups, layer) for layer, groups in named}
        return self._as_mask(spread, attached)

    def _as_mask(
        self, weights: Mapping[str, Tensor], attached: Mapping[str, Tensor] | None = None
    ) -> Mask:
        units = {layer.name: layer.units for layer in self.layers if layer.units is not None}
        return Mask(
            weights=weights,
            attached=attached or {},
            unit_dimensions={name: layout.dimension for name, layout in units.items()},
            unit_groups={name: one.groups for name, one in units.items() if one.groups > 1},
        )

    def _weakest(self, calibration: Calibration, share: float) -> list[Tensor]:
        """Return the groups of each layer that go after a share of the rounds."""
        contexts = [ScoreContext(layer, calibration) for layer in self.layers]
        scored = ranked(contexts, self.score, self.pattern, self.seed)
        if self.pattern.run is not None:
            return within_runs(scored, *self.pattern.run)
        compared = _compared(self.pattern, self.allocation, self.score)
        across, sparsity = compared == "network", self.sparsity or 0.0
        if self.tied is not None and not across:
            self.tied.check_named(self.allocation)
        each = [] if across else self.allocation.asked(contexts, sparsity)
        sparsities = [partway(one, share) for one in each]
        if self.tied is not None:
            asked = partway(sparsity, share) if across else sparsities
            return self.tied.lowest(scored, self.score, self.allocation, asked)
        if across:
            return across_layers(scored, partway(sparsity, share))
        within = within_units if compared == "unit" else within_layers
        return within(scored, sparsities)


def _compared(pattern: Pattern, allocation: Allocation, score: Score) -> Compared:
    """Return among which weights the lowest go: the fewest that allocation or score say.

    Where groups hold several weights there is nothing to compare within a unit.
    """
    of_score = score.compares if pattern.is_single or score.compares == "network" else "layer"
    narrowest: tuple[Compared, ...] = ("unit", "layer", "network")
    return min(allocation.compares, of_score, key=narrowest.index)


def _refuse_to_change_weights_for(score: Score, pattern: Pattern, allocation: Allocation) -> None:
    """Refuse a pattern of several weights, and an allocation that says what each unit keeps."""
    if not pattern.is_single:
        raise InputError(
            f"the score {score.called} changes the weights that stay, one by one, so the pattern "
            f"must be 'weight' or NByM(n, m), not {pattern}"
        )
    if allocation.compares == "unit":
        raise InputError(
            f"the score {score.called} chooses among all units of a layer, so the allocation "
            f"cannot be {allocation}, which says what each keeps: choose 'uniform'"
        )


def _attached(
    root: nn.Module,
    layers: list[PrunableWeight],
    kept: list[Tensor],
    exclude: str | Sequence[str],
    structure: Structure,
    tied: Coupling | None,
) -> dict[str, Tensor]:
    """Return the masks of what goes with the units of layers, and of what goes with groups."""
    masks: dict[str, Tensor] = {}
    attached = attached_parameters(root, layers, exclude, structure)
    for layer, units in zip(layers, kept, strict=True):
        for parameter in attached[layer.name]:
            mask = parameter.spread(units)
            # What several layers share keeps what any of them keeps.
            shared = masks.get(parameter.name)
            masks[parameter.name] = mask if shared is None else mask | shared
    if tied is not None:
        excluded = excluded_parameters(root, exclude, structure)
        names = {name for name, p in parameters_by_name(root).items() if id(p) in excluded}
        for parameter, entries in tied.attached(kept):
            if parameter.name not in {*names, *masks}:
                masks[parameter.name] = parameter.spread(entries)
    return masks
