"""Doing the steps: from a trial to its states, its phases and its record.

A `TrialRunner` belongs to one process. It keeps the data resident, one network to work
on, and the states it used last; trained states it leaves as files. It never writes the database:
what it made, it returns.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.core.errors import InputError
from gossamer.data import Dataset
from gossamer.leakage import statistics
from gossamer.masks import Mask
from gossamer.masks.storages import first_names, tied_copy
from gossamer.measures import versions
from gossamer.measures.functional.accuracy import answers
from gossamer.networks import accepts_channels_last, build, identity
from gossamer.networks.packing import pack
from gossamer.recipes.keys import KeyedTrial
from gossamer.recipes.measuring import measure_network
from gossamer.recipes.state import State, load_state, save_state, snapshot
from gossamer.recipes.statistics_files import write_statistics
from gossamer.recipes.steps import Pulse, Train, Work, expected_after
from gossamer.recipes.trial import DataSpec
from gossamer.recipes.trial_data import TrialData, make_trial_data
from gossamer.records.canonical import key_of
from gossamer.records.environment import describe_environment
from gossamer.records.record import Environment, Phase, Record

_STATES_IN_MEMORY = 3


@dataclass(frozen=True)
class _Template:
    """An initial network, and whether images should come to it channels last."""

    network: nn.Module
    channels_last: bool


class TrialRunner:
    """Makes the states and measures of trials, never the same state twice.

    Parameters
    ----------
    dataset
        Returns the dataset of a specification.
    state_path, checkpoint_path
        The files of a state's key: trained, and on the way.
    statistics_path
        The file of a record's key that holds what attacks need to know.
    pulse
        See `gossamer.recipes.steps.Pulse`.
    """

    def __init__(
        self,
        dataset: Callable[[DataSpec], Dataset],
        state_path: Callable[[str], Path],
        checkpoint_path: Callable[[str], Path],
        statistics_path: Callable[[str], Path],
        pulse: Pulse = lambda total, standing: False,  # noqa: ARG005
    ) -> None:
        self._dataset = dataset
        self._state_path = state_path
        self._checkpoint_path = checkpoint_path
        self._statistics_path = statistics_path
        self._pulse = pulse
        self._states: OrderedDict[str, State] = OrderedDict()
        self._templates: dict[str, _Template] = {}
        self._trial_data: dict[str, TrialData] = {}

    def train(self, keyed: KeyedTrial, position: int) -> Phase:
        """Do the training step at a position, from the states before it, and keep its state.

        Raises
        ------
        TrainingError
            If the loss is no longer a number.
        Interrupted
            If the pulse asked to stop; a checkpoint was kept.
        StoreError
            If a file cannot be read or written.
        """
        step = keyed.trial.steps[position]
        assert isinstance(step, Train)
        key = keyed.states[position + 1]
        state, ended = step.train(self._work(keyed, position))
        save_state(self._state_path(key), state)
        self._remember(key, state)
        return Phase(
            key=key,
            parent=keyed.states[position],
            step=step.described(),
            precision=keyed.trial.precision,
            optimizer_steps=ended.steps,
            examples=len(ended.history) * len(self._data(keyed).train.labels),
            seconds=ended.seconds,
            stopped=ended.stopped,
            history=ended.history,
            environment=_environment(keyed.trial.device),
        )

    def state(self, keyed: KeyedTrial, done: int) -> State:
        """Return the state after `done` steps; its trainings must have been done.

        Raises
        ------
        StoreError
            If a trained state's file is missing or damaged.
        """
        key = keyed.states[done]
        if key in self._states:
            self._states.move_to_end(key)
            return self._states[key]
        if done == 0:
            state = State(snapshot(self._template(keyed).network))
        elif isinstance(keyed.trial.steps[done - 1], Train):
            state, _ = load_state(self._state_path(key))
        else:
            # Quick enough to do again, so that nothing is kept.
            return keyed.trial.steps[done - 1].do(self._work(keyed, done - 1))
        self._remember(key, state)
        return state

    def mask(self, keyed: KeyedTrial) -> Mask:
        """Return the mask that a trial ends with; its trainings must have been done.

        Raises
        ------
        InputError
            If it ends without one.
        """
        mask = self.state(keyed, len(keyed.trial.steps)).mask
        if mask is None:
            raise InputError("a recipe whose masks are compared ends without a mask")
        return mask

    def network(self, keyed: KeyedTrial) -> nn.Module:
        """Return the network that a trial ends with, in evaluation mode on the CPU.

        It is a copy of its own; the trial's trainings must have been done.
        """
        state = self.state(keyed, len(keyed.trial.steps))
        network = self._loaded(keyed, state).cpu().eval()
        return network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload, no-any-return]

    def inputs(self, keyed: KeyedTrial, count: int) -> Tensor:
        """Return so many examples that a trial is trained on, as its network gets them.

        ``[count, ...]`` on the CPU; where there are fewer, the first ones come again.
        """
        inputs = self._data(keyed).train.inputs
        positions = torch.arange(count, device=inputs.device) % len(inputs)
        return inputs[positions].cpu().contiguous()

    def measure(self, keyed: KeyedTrial, names: Collection[str] | None = None) -> Record:
        """Measure the network that a trial ends with; its trainings must have been done.

        Taken are the measurements of some names, or all that the trial asks for.

        Raises
        ------
        TrainingError
            If a pruned weight is not zero, or the network's loss is not a number.
        """
        started = time.perf_counter()
        trial = keyed.trial
        state = self.state(keyed, len(trial.steps))
        network = self._loaded(keyed, state)
        data, leakage = self._data(keyed), trial.measure.leakage
        known = versions(leakage, trial.measure.also)
        names = known if names is None else names
        taken = measure_network(
            network,
            state.mask,
            data,
            self._dataset(trial.data).classes,
            names,
            packed=state.packed,
            sparsity_requested=expected_after(trial.steps).sparsity,
        )
        if data.pool is not None and not self._statistics_path(keyed.record).is_file():
            labels = data.pool.labels.cpu().numpy()
            found = statistics(answers(network, data.pool.inputs), labels)
            write_statistics(self._statistics_path(keyed.record), found)
        return Record(
            key=keyed.record,
            identity=keyed.identity,
            phases=keyed.phases,
            measures=taken.numbers,
            per_class=taken.per_class,
            layers=taken.layers,
            versions={name: known[name] for name in names},
            seconds=time.perf_counter() - started,
            environment=_environment(trial.device),
        )

    def _work(self, keyed: KeyedTrial, position: int) -> Work:
        return Work(
            seed=keyed.trial.seed,
            precision=keyed.trial.precision,
            classes=self._dataset(keyed.trial.data).classes,
            before=self.state(keyed, position),
            loaded=partial(self._loaded, keyed),
            earlier=partial(self.state, keyed),
            data=partial(self._data, keyed),
            borrowed=lambda: self.mask(keyed.sources[position]),
            checkpoint=self._checkpoint_path(keyed.states[position + 1]),
            pulse=self._pulse,
        )

    def _template(self, keyed: KeyedTrial) -> _Template:
        """Return the initial network of a trial, built once a seed and never trained itself."""
        trial = keyed.trial
        kind = key_of({"network": trial.network.model_dump(mode="json"), "origin": _origin(keyed)})
        if kind not in self._templates:
            self._templates.clear()
            self._templates[kind] = _build_template(keyed, self._dataset(trial.data))
        return self._templates[kind]

    def _loaded(self, keyed: KeyedTrial, state: State) -> nn.Module:
        """Return a network of its own that holds a state.

        It is a copy of the initial one, so that nothing that no state holds, such as a buffer
        that is not persistent, comes over from another trial.
        """
        network = tied_copy(self._template(keyed).network)
        if state.packed:
            assert state.mask is not None
            network = pack(network, state.mask.weights)
        network.load_state_dict(state.network)
        return network

    def _remember(self, key: str, state: State) -> None:
        self._states[key] = state
        while len(self._states) > _STATES_IN_MEMORY:
            self._states.popitem(last=False)

    def _data(self, keyed: KeyedTrial) -> TrialData:
        trial = keyed.trial
        key = key_of(
            {
                "origin": _origin(keyed),
                "data": trial.data.model_dump(mode="json"),
                "measure": trial.measure.model_dump(mode="json"),
            }
        )
        if key not in self._trial_data:
            self._trial_data.clear()
            self._trial_data[key] = make_trial_data(
                trial, self._dataset(trial.data), self._template(keyed).channels_last
            )
        return self._trial_data[key]


def _environment(device: str) -> Environment:
    if device == "cuda":
        device = f"cuda ({torch.cuda.get_device_name()}, CUDA {torch.version.cuda})"
    return describe_environment(torch.get_num_threads(), device)


def _origin(keyed: KeyedTrial) -> Mapping[str, Any]:
    origin: Mapping[str, Any] = keyed.identity["origin"]
    return origin


def _build_template(keyed: KeyedTrial, dataset: Dataset) -> _Template:
    """Build the initial network of a trial on its device, in the memory layout that suits it.

    Raises
    ------
    InputError
        If the network or the data are not those that the trial's key was made of.
    """
    trial = keyed.trial
    if dataset.fingerprint != _origin(keyed)["dataset"]:
        raise InputError(
            f"the dataset {trial.data.name} is not what it was when the run was planned: its files "
            "changed meanwhile, or are others on this machine"
        )
    if identity(trial.network, dataset.input_shape, dataset.classes, trial.seed) != dict(
        _origin(keyed)["network"]
    ):
        raise InputError(
            f"the network {trial.network.shown} is another one each time it is made: its source "
            "changed meanwhile, or its initial weights do not come from torch, numpy or random"
        )
    network = build(trial.network, dataset.input_shape, dataset.classes, trial.seed)
    ties = first_names(dict(network.named_parameters()))
    channels_last = accepts_channels_last(network, dataset.input_shape)
    if channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network = network.to(trial.device)
    _check_ties(ties, network)
    return _Template(network, channels_last)


def _check_ties(ties: Mapping[str, str], network: nn.Module) -> None:
    """Refuse a network whose weights no longer share the memory that they were made to share.

    Raises
    ------
    InputError
        If it is one.
    """
    found = first_names(dict(network.named_parameters()))
    if lost := [name for name, first in ties.items() if found[name] != first]:
        raise InputError(
            f"the network's {ties[lost[0]]} and {lost[0]} share memory without being one "
            "parameter, which is lost where it is trained: let both layers hold the same "
            "nn.Parameter"
        )
