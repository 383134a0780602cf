"""The graph of a network as it runs on an example, whatever its Python code does.

The network's own forward is run once. Every function of PyTorch that it calls passes through a
`TorchFunctionMode`, and layers that are kept whole are recorded where their forward begins and
ends.
"""

import gc
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from gossamer.core.errors import InputError
from gossamer.graph.calls import UNSEEN, Call, Graph
from gossamer.graph.examples import Example, copied, failing_on, tensors_in
from gossamer.graph.keeping import unchanged
from gossamer.graph.ledger import Ledger, storage_of
from gossamer.graph.operations import FILLED, LIKE_ANOTHER, is_whole, plain_name


def recorded(network: nn.Module, example: Example) -> Graph:
    """Run a network on an example, in evaluation mode, and return what it computed.

    The network, its modes, buffers and parameters, and the random state are left as they are.

    Raises
    ------
    InputError
        If the example is none, or the network fails on it or has no values yet.
    """
    if any(is_lazy(tensor) for tensor in [*network.parameters(), *network.buffers()]):
        raise InputError(
            f"the network {type(network).__name__} has weights without values yet: run one batch "
            "through it before pruning it"
        )
    held = [*network.buffers(), *tensors_in([list(vars(m).values()) for m in network.modules()])]
    graph = _recorded(network, example, held)
    if any(value.call is not None and value.call.name == UNSEEN for value in graph.values):
        # Walking through everything that is alive takes a while, and is seldom needed.
        alive = [thing for thing in gc.get_objects() if issubclass(type(thing), Tensor)]
        graph = _recorded(network, example, alive)
    return graph


def _recorded(network: nn.Module, example: Example, constants: Sequence[Tensor]) -> Graph:
    """Record a run; `constants` are the tensors that were there before, as far as is known."""
    args, kwargs = copied(example)
    recorder = _Recorder(network, constants, tensors_in((args, kwargs)))
    with (
        unchanged(network),
        recorder.parameters_kept(),
        uncompiled(),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        network.eval()
        for module in network.modules():
            if is_whole(module):
                vars(module)["forward"] = recorder.whole(module, module.forward)
        with failing_on(network, example), recorder:
            output = network(*args, **kwargs)
        return recorder.ledger.graph(tensors_in(output))


def uncompiled() -> AbstractContextManager[Any]:
    """Have what `torch.compile` wraps run as it was written.

    Its stance is asked for only where something can have been compiled: the import takes seconds.
    """
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    eager: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return eager


class _Recorder(TorchFunctionMode):
    def __init__(
        self, network: nn.Module, constants: Sequence[Tensor], inputs: Sequence[Tensor]
    ) -> None:
        super().__init__()
        self.ledger = Ledger(network.parameters(), constants, inputs)
        self._originals = [(parameter, parameter.data) for parameter in network.parameters()]
        self._by_storage = {storage_of(data): data for _, data in self._originals}
        self._saved: dict[int, Tensor] = {}
        self._within: list[nn.Module] = []
        self._noting = False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if self._noting:
            return func(*args, **kwargs)
        return self._performed(_name_of(func), None, func, args, kwargs)

    def whole(self, module: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
        """Return a forward that records a layer as one call."""

        def recording(*args: Any, **kwargs: Any) -> Any:
            return self._performed("", module, forward, args, kwargs)

        return recording

    @contextmanager
    def parameters_kept(self) -> Iterator[None]:
        """Put parameters back that a forward writes to, as those do that limit their norms."""
        try:
            yield
        finally:
            for parameter, data in self._originals:
                if storage_of(parameter) != storage_of(data):
                    parameter.data = data
            with torch.no_grad():
                for storage, values in self._saved.items():
                    self._by_storage[storage].copy_(values)

    def _performed(
        self,
        name: str,
        module: nn.Module | None,
        run: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Run a function or a layer, and note which values it computed from which."""
        with self._quietly():
            call = self._call(name, module, run, args, kwargs)
            given = tensors_in((args, kwargs))
            targets = _targets(name, args, kwargs)
            self._save(targets)
            versions = [_version(tensor) for tensor in given]
        inside = self._within if module is None else [*self._within, module]
        outside, self._within = self._within, inside
        try:
            result = run(*args, **kwargs)
        finally:
            self._within = outside
        with self._quietly():
            changed = [
                t for t, before in zip(given, versions, strict=True) if _version(t) != before
            ]
            self.ledger.note(call, given, tensors_in(result), [*targets, *changed])
        return result

    def _call(
        self,
        name: str,
        module: nn.Module | None,
        run: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Call:
        plain = plain_name(name)
        values_of, values_by = self.ledger.with_values((args, kwargs))
        inputs = tuple(self.ledger.value(tensor) for tensor in tensors_in((args, kwargs)))
        if plain in FILLED:
            inputs = ()
        if plain in LIKE_ANOTHER:
            inputs = inputs[:1]
        within = self._within[0] if self._within else None
        return Call(plain, module, values_of, values_by, inputs, within, run)

    def _save(self, targets: list[Tensor]) -> None:
        for storage in {storage_of(tensor) for tensor in targets}:
            if storage in self._by_storage and storage not in self._saved:
                self._saved[storage] = self._by_storage[storage].clone()

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        before, self._noting = self._noting, True
        try:
            yield
        finally:
            self._noting = before


def _name_of(func: Callable[..., Any]) -> str:
    """Return the name of a function; of a property's getter that of the property."""
    name = str(getattr(func, "__name__", ""))
    owner = getattr(func, "__self__", None)
    return str(getattr(owner, "__name__", name)) if name == "__get__" else name


def _targets(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """Return the tensors that a function writes to, as far as its name and arguments tell."""
    in_place = name.endswith("_") and not name.endswith("__")
    in_place = in_place or name == "__setitem__" or kwargs.get("inplace") is True
    return [*tensors_in(args[:1] if in_place else ()), *tensors_in(kwargs.get("out"))]


def _version(tensor: Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version
