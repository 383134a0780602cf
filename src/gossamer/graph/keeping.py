"""Running a network for a look at it, and leaving everything as it was."""

import copy
import random
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy

_CONTAINERS = (dict, OrderedDict, defaultdict, Counter, list, set, deque)


@contextmanager
def unchanged(network: nn.Module) -> Iterator[None]:
    """Put back what a forward may change: modes, attributes, buffers and the random state.

    Lists, dicts and sets that modules hold get back what they held. Parameters are left to the
    caller.
    """
    modules = list(network.modules())
    attributes = [(module, dict(vars(module))) for module in modules]
    containers = [
        (value, copy.copy(value))
        for _, held in attributes
        for value in held.values()
        if type(value) in _CONTAINERS
    ]
    filled = (buffer for buffer in network.buffers() if not is_lazy(buffer))
    buffers = [(buffer, buffer.detach().clone()) for buffer in filled]
    with _random_state_kept():
        try:
            yield
        finally:
            for module, held in attributes:
                vars(module).clear()
                vars(module).update(held)
            for container, before in containers:
                _refill(container, before)
            with torch.no_grad():
                for buffer, values in buffers:
                    buffer.copy_(values)


def _refill(container: Any, before: Any) -> None:
    container.clear()
    if isinstance(container, list | deque):
        container.extend(before)
    else:
        container.update(before)


@contextmanager
def _random_state_kept() -> Iterator[None]:
    # Asking for the random state of a device that nobody used yet would start it.
    used = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    cuda = range(torch.cuda.device_count()) if used else ()
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 - a user may use it
    try:
        with torch.random.fork_rng(devices=cuda):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
