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

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from gossamer.core.errors import InputError
from gossamer.graph.arguments import Arguments
from gossamer.graph.calls import UNSEEN, Call, Graph
from gossamer.graph.examples import Example, copied, failing_on, tensors_in
from gossamer.graph.keeping import unchanged
from gossamer.graph.ledger import Ledger, storage_of
from gossamer.graph.numbers import AttributeOf, Number, SizeOf
from gossamer.graph.operations import (
    FILLED,
    LIKE_ANOTHER,
    NORMALISATIONS,
    is_whole,
    plain_name,
)

_SIZES = frozenset({"shape", "size"})
_ABOUT = FILLED | {
    "names", "layout", "grad", "grad_fn", "itemsize", "nbytes", "element_size", "repr", "format",
    "hash", "requires_grad", "output_nr", "data_ptr", "storage_offset",
}  # fmt: skip
"""What tells something of a tensor that does not depend on its numbers."""


_PACKING = "_pack_padded_sequence"


def recorded(network: nn.Module, example: Example | Arguments, *, training: bool = False) -> Graph:
    """Run a network on an example, in evaluation mode, and return what it computed.

    With `training` all but its normalisations are in training mode.

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
    graph = _recorded(network, example, held, training)
    if any(value.call is not None and value.call.name == UNSEEN for value in graph.values):
        # Walking through everything that is alive takes a while, and is seldom needed.
        alive = [thing for thing in gc.get_objects() if issubclass(type(thing), Tensor)]
        graph = _recorded(network, example, alive, training)
    return graph


def _recorded(
    network: nn.Module,
    example: Example | Arguments,
    constants: Sequence[Tensor],
    training: bool,
) -> Graph:
    """Record a run; `constants` are the tensors that were there before, as far as is known."""
    if isinstance(example, Arguments):
        args, kwargs = example.clone().positional_and_named
    else:
        args, kwargs = copied(example)
    recorder = _Recorder(network, constants, tensors_in((args, kwargs)))
    with (
        unchanged(network),
        recorder.parameters_kept(),
        uncompiled(),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        network.train(training)
        for module in network.modules():
            if isinstance(module, NORMALISATIONS):
                module.eval()
            whole = is_whole(module)
            if whole:
                vars(module)["forward"] = recorder.whole(module, module.forward)
            # The forward around a cell makes its first states, as wide as the cell says.
            if not whole or isinstance(module, nn.RNNCellBase):
                recorder.number_attributes(module)
        shown = (args, kwargs) if isinstance(example, Arguments) else example
        with failing_on(network, shown), layers_apart(), recorder:
            output = network(*args, **kwargs)
        return recorder.graph(tensors_in(output))


@contextmanager
def layers_apart() -> Iterator[None]:
    """Have the encoders of PyTorch call their layers, which one fused function stands for else."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def is_mask(tensor: Tensor) -> bool:
    """Tell whether a tensor of whole numbers or truth values holds nothing but zeros and ones."""
    return not tensor.is_floating_point() and bool(((tensor == 0) | (tensor == 1)).all())


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
        self._decided: list[Number] = []
        self._by_data = self._by_whole = ""
        whole = [one for one in inputs if not one.is_floating_point()]
        self._whole = {self.ledger.value(one) for one in whole}
        self._masks = {self.ledger.value(one) for one in whole if is_mask(one)}
        self._packed: set[Any] = set()

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
        if func is Tensor.__iter__ and args[0].dim():
            return iter(self._performed("unbind", None, torch.unbind, args, kwargs))
        return self._performed(_name_of(func), None, func, args, kwargs)

    def whole(self, module: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
        """Return a forward that records a layer as one call."""

        def recording(*args: Any, **kwargs: Any) -> Any:
            return self._performed("", module, forward, args, kwargs)

        return recording

    def number_attributes(self, module: nn.Module) -> None:
        """Let whole numbers among the attributes of a module say where they come from."""
        for name, value in vars(module).items():
            if type(value) is int:
                vars(module)[name] = Number(value, AttributeOf(module, name), self._decided)

    def graph(self, outputs: Sequence[Tensor]) -> Graph:
        """Return what was recorded of a run that returned these tensors."""
        decided = list(self._decided)
        return self.ledger.graph(outputs, decided, self._by_data, self._by_whole)

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
            written = [*targets, *changed]
            self.ledger.note(call, given, tensors_in(result), written)
            given_out = {self.ledger.value(one) for one in (*tensors_in(result), *written)}
            of = [value for value in call.inputs if value.computed]
            for known in (self._whole, self._masks, self._packed):
                if of and known.issuperset(of):
                    known |= given_out
            if call.name == _PACKING and call.inputs[-1] in self._whole:
                # How many sequences have so many steps follows from their lengths alone.
                self._packed.add(self.ledger.value(tensors_in(result)[1]))
            if call.name in _SIZES and not self._within:
                return self._numbered(given[0], call, result)
            if not _tells_data(call, result) or (of and self._packed.issuperset(of)):
                pass
            elif self._masks.issuperset(of):
                self._by_whole = self._by_whole or name.strip("_")
            else:
                self._by_data = self._by_data or name
        return result

    def _numbered(self, owner: Tensor, call: Call, result: Any) -> Any:
        """Let sizes say what they are the sizes of."""
        value, count = self.ledger.value(owner), owner.dim()

        def numbered(size: int, dimension: int) -> Number:
            return Number(size, SizeOf(value, dimension % count - count), self._decided)

        if isinstance(result, int):
            return numbered(result, int(call.argument(1, "dim")))
        return torch.Size([numbered(size, place) for place, size in enumerate(result)])

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


def _tells_data(call: Call, result: object) -> bool:
    """Tell whether Python was given numbers that depend on the network's input."""
    if call.name in _ABOUT or (call.name.startswith("is_") and call.name != "is_nonzero"):
        return False
    plain = isinstance(result, bool | int | float | complex | list | np.ndarray)
    return plain and not tensors_in(result) and any(value.computed for value in call.inputs)
