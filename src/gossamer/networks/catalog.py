"""What a trial says of its network, and the network that this means."""

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import PositiveInt, field_validator, model_validator

from gossamer.core.errors import InputError
from gossamer.networks.arguments import checked_arguments, shown_arguments
from gossamer.networks.geometry import HIDDEN, check_examples, check_sizes
from gossamer.records.record import Value

if TYPE_CHECKING:
    from torch import nn

    from gossamer.networks.initial import Initialisation

_VERSIONS = {
    "cifar-cnn": 1,
    "cifar-dropout-cnn": 1,
    "cifar-wide-cnn": 1,
    "fashion-cnn": 1,
    "mlp": 1,
    "mnist-cnn": 1,
}
"""The published networks; a version rises whenever the network's numbers change."""

_INITIALISATION_VERSIONS = {"glorot-uniform": 1, "pytorch": 1}
"""A version rises whenever the numbers that an initialisation draws change."""


class NetworkSpec(Value):
    """Which network a trial has.

    Examples
    --------
    >>> NetworkSpec(name="mlp", hidden=(300, 100)).hidden
    (300, 100)
    """

    name: str
    """A published network, or ``package.module:callable`` or ``folder/file.py:callable`` for one's
    own: a function or class that returns an `nn.Module` when it is called with `args`."""
    hidden: tuple[PositiveInt, ...] | None = None
    """Units of each hidden dense layer of "mlp", "cifar-dropout-cnn" or "cifar-wide-cnn"; None for
    the published ones."""
    args: Mapping[str, Any] = {}
    """What one's own callable is called with, by name; numbers, texts, arrays and tables."""

    def __hash__(self) -> int:
        """Return a hash of all but the values of arguments, which may be tables and have none."""
        return hash((self.name, self.hidden, *sorted(self.args)))

    @property
    def shown(self) -> str:
        """The name with the arguments it is called with, as a reader wants it."""
        return f"{self.name}{shown_arguments(self.args)}"

    @field_validator("args")
    @classmethod
    def _args_fit_into_a_key(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        return checked_arguments(given)

    @model_validator(mode="after")
    def _args_only_for_a_callable(self) -> "NetworkSpec":
        if self.args and ":" not in self.name:
            raise InputError(
                f"'args' was given for the network {self.name!r}, but only one's own callable "
                "takes arguments: leave it out, or name 'package.module:callable'.",
                fields=("args",),
            )
        return self

    @model_validator(mode="after")
    def _hidden_only_where_it_may_differ(self) -> "NetworkSpec":
        if self.hidden is not None and self.name not in HIDDEN:
            raise InputError(
                f"'hidden' was given for the network {self.name!r}, but only "
                f"{', '.join(map(repr, HIDDEN))} have it: leave it out or choose one of these.",
                fields=("hidden",),
            )
        return self


def names() -> tuple[str, ...]:
    """Return the names of the published networks, sorted.

    Examples
    --------
    >>> names()
    ('cifar-cnn', 'cifar-dropout-cnn', 'cifar-wide-cnn', 'fashion-cnn', 'mlp', 'mnist-cnn')
    """
    return tuple(sorted(_VERSIONS))


def build(spec: NetworkSpec, input_shape: Sequence[int], classes: int, seed: int) -> "nn.Module":
    """Return the initialised network in float32, on the processor and in training mode.

    A published network has the weights of `gossamer.networks.initialise`, by the initialisation
    that it was published with: PyTorch's own for "mnist-cnn", Glorot's for the others. A user's
    callable is called with the global generators of torch, NumPy and `random` seeded by
    (seed, "initialise"), so that its own initialisation is reproducible; they are left as they
    were.

    Parameters
    ----------
    spec
        Which network.
    input_shape
        Shape of one example, without the batch dimension.
    classes
        Number of outputs that the network must have.
    seed
        The seed of the trial.

    Raises
    ------
    InputError
        If the name is unknown, the examples do not suit the network, or the user's module or
        callable fails or does not give a network of `classes` outputs that can be trained.

    Examples
    --------
    >>> network = build(NetworkSpec(name="mlp", hidden=(8,)), (1, 2, 2), classes=3, seed=0)
    >>> [tuple(weight.shape) for weight in network.parameters()]
    [(8, 4), (3, 8)]
    """
    _check(spec, input_shape, classes)
    if spec.name not in _VERSIONS:
        from gossamer.networks.imported import imported_network

        return imported_network(spec.name, input_shape, classes, seed, spec.args)

    import torch

    from gossamer.networks.initial import initialise
    from gossamer.networks.published import published

    with torch.random.fork_rng(devices=[]):
        network = published(spec.name, input_shape, classes, _hidden(spec))
    initialise(network, seed, _initialisation(spec.name))
    return network


def identity(
    spec: NetworkSpec, input_shape: Sequence[int], classes: int, seed: int
) -> dict[str, Any]:
    """Return what determines the initial network, beside the seed, for a trial's key.

    For a published network: its name, version and resolved options and its initialisation's name
    and version; this needs no torch. For a user's callable: the SHA-256 of the source files that
    define it and of the initial weights and buffers that it gives, and the arguments that it is
    called with if there are any. Those files are its module's,
    its layers' and their base classes', and what these import, but for the standard library and
    other installed packages; what no import statement names is not followed. Python reads a module
    once: after editing one, start a new process, or the hash would be of source that is not
    running.

    Parameters
    ----------
    spec, input_shape, classes, seed
        As for `build`. The seed matters to a user's callable alone, whose weights are hashed; the
        key of a trial holds it anyway.

    Returns
    -------
    dict
        Strings, numbers, lists and dicts only, fit for JSON.

    Raises
    ------
    InputError
        As `build` does.

    Examples
    --------
    >>> identity(NetworkSpec(name="mlp"), (784,), 10, seed=0)["options"]
    {'input_shape': [784], 'classes': 10, 'hidden': [1000, 1000, 500, 200]}
    """
    _check(spec, input_shape, classes)
    if spec.name not in _VERSIONS:
        from gossamer.networks.imported import imported_identity

        return imported_identity(spec.name, input_shape, classes, seed, spec.args)
    options: dict[str, Any] = {"input_shape": [int(n) for n in input_shape], "classes": classes}
    if spec.name in HIDDEN:
        options["hidden"] = list(_hidden(spec))
    initialisation = _initialisation(spec.name)
    return {
        "name": spec.name,
        "version": _VERSIONS[spec.name],
        "options": options,
        "initialisation": {
            "name": initialisation,
            "version": _INITIALISATION_VERSIONS[initialisation],
        },
    }


def _hidden(spec: NetworkSpec) -> tuple[int, ...]:
    return HIDDEN.get(spec.name, ()) if spec.hidden is None else spec.hidden


def _initialisation(name: str) -> "Initialisation":
    return "pytorch" if name == "mnist-cnn" else "glorot-uniform"


def _check(spec: NetworkSpec, input_shape: Sequence[int], classes: int) -> None:
    check_sizes(input_shape, classes)
    check_examples(spec.name, input_shape)
    if spec.name not in _VERSIONS and ":" not in spec.name:
        raise InputError(_unknown(spec.name))


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, names(), n=1, cutoff=0.5)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return (
        f"There is no network {name!r}{hint}: give one of {', '.join(map(repr, names()))}, "
        "or 'package.module:callable' for your own."
    )
