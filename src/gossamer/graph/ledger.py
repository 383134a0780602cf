"""Which tensor of a running network is which value.

A tensor is known again by its identity, and where its memory was written through another view, or
where it was wrapped anew, by its storage.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from gossamer.graph.calls import UNSEEN, Call, Graph, Value

ALIAS = "alias"
"""Name of a call that stands for a view of memory that was written through another tensor."""


class Ledger:
    """The values of a run so far.

    Parameters
    ----------
    parameters
        Of the network.
    constants
        Other tensors that were there before the run.
    inputs
        The tensors that the network is given.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        constants: Iterable[Tensor],
        inputs: Iterable[Tensor],
    ) -> None:
        self._values: list[Value] = []
        # Tensors are held, so that neither identities nor storages are given out twice.
        # The value of each tensor object when it was last met.
        self._known: dict[int, tuple[Tensor, Value]] = {}
        # What a storage was last returned as: views that no call returned are known by it.
        self._latest: dict[int, tuple[Tensor, Value]] = {}
        # What a storage was last written through: it outdates whatever was known of its views.
        self._written: dict[int, tuple[Tensor, Value]] = {}
        self._constants = {storage_of(tensor) for tensor in constants}
        for parameter in parameters:
            self._learn(parameter, self._new(parameter, None, parameter=parameter))
        for tensor in inputs:
            self._learn(tensor, self._new(tensor, None, computed=True))

    def value(self, tensor: Tensor) -> Value:
        """Return the present value of a tensor."""
        _, value = self._known.get(id(tensor)) or (tensor, self._first_seen(tensor))
        held, written = self._written.get(storage_of(tensor), (tensor, value))
        if written.order > value.order:
            value = written if _same_place(tensor, held) else self._alias(tensor, value, written)
        self._known[id(tensor)] = (tensor, value)
        return value

    def with_values(self, item: Any) -> Any:
        """Return arguments with values in place of tensors."""
        if isinstance(item, Tensor):
            return self.value(item)
        if isinstance(item, list | tuple):
            return tuple(self.with_values(part) for part in item)
        if isinstance(item, dict):
            return {key: self.with_values(part) for key, part in item.items()}
        return item

    def note(
        self, call: Call, given: Sequence[Tensor], results: Sequence[Tensor], to: Sequence[Tensor]
    ) -> None:
        """Note what a call computed: its results, and the tensors `to` which it wrote."""
        computed = any(value.computed for value in call.inputs)
        written = {id(tensor): tensor for tensor in to}
        returned = {id(t) for t in given} - written.keys()  # given and handed on as they are
        for tensor in {id(t): t for t in [*to, *results] if id(t) not in returned}.values():
            value = self._new(tensor, call, computed=computed)
            self._learn(tensor, value)
            if id(tensor) in written:
                self._written[storage_of(tensor)] = (tensor, value)

    def graph(
        self,
        outputs: Sequence[Tensor],
        decided: Sequence[int] = (),
        by_data: str = "",
        by_whole: str = "",
    ) -> Graph:
        """Return what was noted of a run that returned these tensors."""
        values = tuple(self.value(tensor) for tensor in outputs)
        return Graph(
            tuple(self._values), values, decided=tuple(decided), by_data=by_data, by_whole=by_whole
        )

    def _new(
        self,
        tensor: Tensor,
        call: Call | None,
        *,
        parameter: nn.Parameter | None = None,
        computed: bool = False,
        constant: Tensor | None = None,
    ) -> Value:
        shape = tuple(tensor.shape)
        value = Value(len(self._values), shape, call, parameter, computed, constant)
        self._values.append(value)
        return value

    def _learn(self, tensor: Tensor, value: Value) -> None:
        self._known[id(tensor)] = self._latest[storage_of(tensor)] = (tensor, value)

    def _first_seen(self, tensor: Tensor) -> Value:
        """Return the value of a tensor that no call returned."""
        storage = storage_of(tensor)
        if storage in self._latest:  # as after a custom autograd function, which wraps anew
            held, value = self._latest[storage]
            return value if _same_place(tensor, held) else self._alias(tensor, value)
        if storage in self._constants:
            return self._new(tensor, None, constant=tensor)
        return self._new(tensor, Call(UNSEEN, None, (), {}, ()), computed=True)

    def _alias(self, tensor: Tensor, *behind: Value) -> Value:
        call = Call(ALIAS, None, behind, {}, behind)
        return self._new(tensor, call, computed=any(value.computed for value in behind))


def storage_of(tensor: Tensor) -> int:
    """Return what is the same for all views of one memory; of a tensor without any, itself."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (RuntimeError, AttributeError, ValueError):
        return id(tensor)


def _same_place(one: Tensor, other: Tensor) -> bool:
    places = [(t.shape, t.stride(), t.storage_offset()) for t in (one, other)]
    return places[0] == places[1]
