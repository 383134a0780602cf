"""Compaction: a smaller network that computes the same, without the units that contribute nothing.

A unit is an output of a linear layer or convolution: a neuron, a filter, a channel. It contributes
nothing if no non-zero weight reads it, and nothing that a bias could not give if it has the same
value for every input. Both are found by following the channels of the network from operation to
operation; see `graph.following` for what is known of each, and `compacting.solving` for what goes.
"""

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.compression.agreement import (
    answers_of_copy,
    check_output_of_copy,
    difference_from,
    first_difference,
)
from gossamer.compression.compacting.copying import (
    given_module,
    plain_copy,
)
from gossamer.compression.compacting.hooks import (
    Hook,
    quiet_copy,
    watching_hooks,
    what_runs_beside,
)
from gossamer.compression.compacting.layers import whether_sound
from gossamer.compression.compacting.other_calls import options_at_default, unreached
from gossamer.compression.compacting.report import (
    CompactedLayer,
    CompactionReport,
    count_parameters,
)
from gossamer.compression.compacting.solving import Plan, solve, with_whole_blocks
from gossamer.compression.compacting.tracing import trace
from gossamer.compression.known_answers import KnownAnswers
from gossamer.compression.outputs import comparable
from gossamer.core.errors import InputError
from gossamer.core.progress import patiently
from gossamer.graph.arguments import Arguments
from gossamer.graph.calls import Graph
from gossamer.graph.channels import Findings
from gossamer.graph.examples import Example
from gossamer.graph.following import follow
from gossamer.graph.recording import is_mask, recorded
from gossamer.graph.symbolic import UntraceableError
from gossamer.measures.functional.repeatable import why_answers_change

_STEPS = 2


def compact(model: nn.Module, example: Example) -> nn.Module:
    """Return a smaller network that computes the same in evaluation mode.

    Units that contribute nothing are removed, forwards and backwards through linear layers,
    convolutions (grouped, depthwise and transposed ones too), batch normalisation, activations,
    pooling, flattening, sums, products and concatenations. What a constant unit added goes into the
    bias of what reads it, or the running mean of the normalisation behind that. The classes, the
    forward and all names stay; only widths shrink.

    Parameters
    ----------
    model
        Any module; it is left as it is. Zeros in its weights say what goes. A compiled or
        data-parallel one gives the bare network; sparse layers become dense ones.
    example
        An input of it, [batch, ...], a tuple of positional arguments or a dict of keyword
        arguments.

    Returns
    -------
    nn.Module
        A copy with fewer units, in the same modes. It trains, saves and exports as the model does.
        A layer without a bias may have gained one. Forward hooks stay, those of gradients do not.

    Raises
    ------
    InputError
        If `model` is no module or cannot be copied, `example` holds no tensor, the model fails
        on it, or its output holds something computed that is no dense tensor. Tensors may stand in
        tuples, lists, mappings, dataclasses and plain objects, beside what is the same for all
        inputs of a size. Also if a copy computes with tensors of the model, or hooks are registered
        for all modules or on a wrapper.

    Warns
    -----
    RuntimeWarning
        If the model, or a part of it, cannot be followed, because what it computes depends on data;
        these parts, or all, keep their widths. A part with a hook that changes something is one,
        and a model that gives different answers to the same inputs. Also if units are gone, and
        the example does not reach all modules: other calls, by a flag or another method, may, but
        only calls like the one on the example are followed.

    Notes
    -----
    The networks agree up to rounding in evaluation mode, which is checked in float64 on the example
    and on random numbers like it. In training mode a constant channel before a batch normalisation
    adds its shift by other statistics, so the two may differ; dropout draws other numbers.

    A constant channel other than 0 stays before zero padding, as it is not constant at the border.
    Inputs of group normalisations, and of whatever else is not known to keep channels apart, all
    stay, and those of layer normalisations that are not zero; so do the network's inputs and
    outputs, layers with shared or parametrized weights, and layers before a reshape to a fixed size
    such as ``x.view(-1, 9216)``. A layer keeps at least one unit, and the groups of a convolution
    stay equal in size; a unit that stays for its place alone has weights of zero. See
    `compaction_report` for what stayed and why.

    Examples
    --------
    >>> network = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> _ = network[0].weight.data[2:].zero_()
    >>> compact(network, torch.ones(1, 3))
    Sequential(
      (0): Linear(in_features=3, out_features=2, bias=True)
      (1): ReLU()
      (2): Linear(in_features=2, out_features=2, bias=True)
    )
    """
    report = compaction_report(model, example)
    if "" in report.unfollowed:
        warnings.warn(
            f"The network {type(report.network).__name__} cannot be followed "
            f"({report.unfollowed['']}), so nothing is removed from it.",
            RuntimeWarning,
            stacklevel=2,
        )
    elif report.unfollowed:
        parts = "; ".join(f"{name}: {why}" for name, why in report.unfollowed.items())
        warnings.warn(
            f"Parts of the network {type(report.network).__name__} cannot be followed ({parts}), "
            "so these, and what they read, keep their widths.",
            RuntimeWarning,
            stacklevel=2,
        )
    if report.unreached:
        missed = [f"{name} is not run" for name in report.unreached]
        if report.defaults:
            missed.append(f"the forward has {', '.join(report.defaults)}")
        warnings.warn(
            f"The network {type(report.network).__name__} was made smaller for calls like "
            f"network(example), in which {', '.join(missed)}: other calls may fail, or give "
            "something else, as units that they read are gone. If you need them, compact a module "
            "whose forward makes all these calls.",
            RuntimeWarning,
            stacklevel=2,
        )
    return report.network


def compaction_report(model: nn.Module, example: Example) -> CompactionReport:
    """Do what `compact` does, and tell what stayed and why.

    Parameters and errors are those of `compact`; what could not be followed is in the result.

    Examples
    --------
    >>> network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> _ = network[2].weight.data[:, 1].zero_()
    >>> report = compaction_report(network, torch.ones(1, 3))
    >>> report.layers["0"].outputs.tolist(), report.layers["2"].fixed
    ([True, False, True, True], "it gives the network's output")
    """
    given = Arguments.of(given_module(model), example)
    with (
        torch.inference_mode(mode=False),
        torch.no_grad(),
        patiently("compaction step", _STEPS) as tell,
    ):
        tell("finding out whether its answers repeat")
        network = plain_copy(model)
        check_output_of_copy(network, given)
        watching = watching_hooks(copy.deepcopy(network), given)
        if why := why_answers_change(quiet_copy(network, watching), given):
            return _kept_whole(network, f"it gives different answers for the same inputs: {why}")
        tell("removing units")
        answers = answers_of_copy(model, network, given)
        quiet = KnownAnswers(quiet_copy(network, watching))
        return _reports(network, answers, given, quiet, watching)[0]


def compactions(
    model: nn.Module, example: Arguments, answers: KnownAnswers | None = None
) -> tuple[CompactionReport, nn.Module | None]:
    """Compact a network that has no hooks beside those that compute weights, and was checked.

    Its output can be compared, and it gives the same answers to the same inputs; those that are
    known already may be given. Return the report, and a network that is larger, but has kept the
    blocks it was pruned in.

    Of layers that were pruned in blocks of four rows it lost whole blocks only, so that sparse
    kernels may run it faster. It is None if there are none that the smallest network has broken.
    """
    with torch.inference_mode(mode=False), torch.no_grad():
        network = plain_copy(model)
        known = answers or KnownAnswers(network)
        given = comparable(known.plain.of(example))
        report, *others = _reports(network, given, example, known, whole_blocks=True)
    sound = [other.network for other in others if "" not in other.unfollowed]
    return report, sound[0] if sound else None


def _reports(
    network: nn.Module,
    given: list[Any],
    example: Arguments,
    answers: KnownAnswers,
    watching: Sequence[Hook] = (),
    whole_blocks: bool = False,
) -> list[CompactionReport]:
    """Compact the copy of a network, and perhaps once more by whole blocks.

    `given` is what the network gives for the example, `answers` what it gives without the hooks
    that only watch.
    """
    quiet = answers.plain.network

    def reports_of(
        found: Findings, plan: Plan, followed: CompactionReport, *more: Arguments
    ) -> list[CompactionReport]:
        plans = [plan]
        in_blocks = with_whole_blocks(found, plan) if whole_blocks else None
        if in_blocks is not None:
            plans.append(in_blocks)
        reports = []
        for one in plans:
            smaller = copy.deepcopy(network)
            one.apply(smaller)
            without_hooks = quiet_copy(smaller, watching)
            problem = first_difference(answers, without_hooks, one, example)
            for other in more:
                problem = problem or first_difference(answers, without_hooks, one, other)
            if problem or (problem := difference_from(given, smaller, example)):
                reports.append(_kept_whole(network, f"without its unused units, {problem}"))
                continue
            report = replace(followed, network=smaller, layers=_layers(found, one))
            if not report.shrinks:
                report = replace(report, unreached=(), defaults=())
            reports.append(report)
        return reports

    removed = 0
    try:
        found, followed = _followed(quiet, example)
        plan = solve(found)
        reports, removed = reports_of(found, plan, followed), plan.removed
    except UntraceableError as error:
        reports = [_kept_whole(network, str(error))]
    if _leaves_more(reports[0]) and (otherwise := _recorded(quiet, example)) is not None:
        found, followed, others_tried = otherwise
        plan = solve(found)
        if plan.removed > removed or "" in reports[0].unfollowed:
            others = reports_of(found, plan, followed, *others_tried)
            return others if "" not in others[0].unfollowed else reports
    return reports


def _kept_whole(network: nn.Module, why: str) -> CompactionReport:
    return CompactionReport(network, {}, {"": why}, parameters_before=count_parameters(network))


def _followed(network: nn.Module, example: Arguments) -> tuple[Findings, CompactionReport]:
    """Follow a network as it evaluates, and as it trains where that is different, by symbols.

    Return what was found, and what of a report is known before anything is removed.
    """
    found = Findings()
    twin = copy.deepcopy(network).eval()
    evaluating = trace(twin, example)
    follow(
        evaluating.graph, twin, found, whether_sound(evaluating.graph, twin), with_constants=True
    )
    learner = copy.deepcopy(network).train()
    training = trace(learner, example)
    if training.calls != evaluating.calls:
        learner.eval()
        sound = whether_sound(training.graph, learner)
        follow(training.graph, learner, found, sound, with_constants=True)
    found.fix_called_otherwise()
    graphs = ((evaluating.graph, twin), (training.graph, learner))
    return found, _before(network, graphs, {**training.unfollowed, **evaluating.unfollowed})


def _recorded(
    network: nn.Module, example: Arguments
) -> tuple[Findings, CompactionReport, list[Arguments]] | None:
    """Follow a network as it runs on the example; None where more than that decides what it does.

    It may do so by sizes: those that count units stay then. Where it asks something of the masks
    that it is given, such as whether all are true, it is also followed where they are, or are not;
    these inputs are returned, too.
    """
    if any(what_runs_beside(module) for module in network.modules()):
        return None
    found, graphs, masked = Findings(), [], ""
    inputs = [example]
    for training in (False, True):
        for given in inputs:
            twin = copy.deepcopy(network)
            try:
                graph = recorded(twin, given, training=training)
            except InputError:  # some networks want other inputs, or give no answer, in training
                return None
            if graph.by_data:
                return None
            if graph.by_whole and not masked:
                masked = graph.by_whole
                inputs += _other_masks(example)
            follow(graph, twin, found, whether_sound(graph, twin), with_constants=True)
            graphs.append((graph, twin))
    found.fix_called_otherwise()
    report = replace(_before(network, graphs, {}), asked=masked)
    return found, report, inputs[1:]


def _other_masks(example: Arguments) -> list[Arguments]:
    """Return an example whose masks hide nothing, and where they do so already one that hides.

    Its masks hide the last of each row.
    """
    masks = [is_mask(tensor) for tensor in example.tensors]

    def with_masks(change: Callable[[Tensor], Tensor]) -> Arguments:
        pairs = zip(example.tensors, masks, strict=True)
        return example.with_tensors([change(one) if mask else one for one, mask in pairs])

    whole = with_masks(torch.ones_like)
    if not all(map(torch.equal, whole.tensors, example.tensors)):
        return [whole]
    return [with_masks(_without_last)]


def _without_last(mask: Tensor) -> Tensor:
    hiding = torch.ones_like(mask)
    hiding[..., -1:] = 0
    return hiding


def _before(
    network: nn.Module,
    graphs: Sequence[tuple[Graph, nn.Module]],
    unfollowed: dict[str, str],
) -> CompactionReport:
    return CompactionReport(
        network,
        {},
        unfollowed,
        unreached(network, graphs),
        options_at_default(network),
        count_parameters(network),
    )


def _leaves_more(report: CompactionReport) -> bool:
    """Tell whether units of zeros are left, or something holds them that is not seen by symbols."""
    if report.unfollowed:
        return True
    weights = (p.detach() for p in report.network.parameters() if p.dim() > 1)
    return any(not bool(weight.flatten(1).any(1).all()) for weight in weights)


def _layers(found: Findings, plan: Plan) -> dict[str, CompactedLayer]:
    bundles = found.bundles()
    reasons = {
        name: next(
            (
                why
                for units, why in found.fixed
                if torch.isin(bundles[layer.units], bundles[units]).any()
            ),
            "",
        )
        for name, layer in found.layers.items()
    }
    return {
        name: CompactedLayer(cut.inputs, cut.outputs, reasons[name])
        for name, cut in plan.layers.items()
    }
