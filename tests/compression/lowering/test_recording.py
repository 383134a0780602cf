"""Networks are recorded as they are written where that says enough, or else written out."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from gossamer.compression.lowering.rewriting import divided
from gossamer.compression.lowering.tracing import operation_name, trace


class InPlace(nn.Module):
    """Writes into values that others read, before and after."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return images of four channels."""
        found = self.norm(self.first(inputs))
        before = found + 1  # as it was
        functional.relu_(found)
        after = found * 2  # as it is now
        found += before
        found = functional.hardtanh_(self.second(found)) + after
        return functional.dropout(found, 0.5, training=self.training)


class OfView(nn.Module):
    """Writes into a part of a value, which is another value then."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 6)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return rows of six numbers."""
        found = self.linear(inputs)
        functional.relu_(found[:, :3])
        return found  # type: ignore[no-any-return]


class OfViewBefore(OfView):
    """Reads a value through a view that was taken before it changed."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return rows of six numbers."""
        found = self.linear(inputs)
        view = found.view(-1, 6)
        functional.relu_(found)
        return view  # type: ignore[no-any-return]


def _names(graph: torch.fx.GraphModule) -> set[str]:
    return {operation_name(node) for node in graph.graph.nodes if node.op == "call_function"}


def test_what_only_one_reads_is_written_anew_without_computing_the_network_again() -> None:
    torch.manual_seed(0)
    model, example = InPlace().eval(), torch.randn(3, 3, 5, 5)
    found = trace(model, example)
    assert found.decomposed is not None
    assert _names(found.graph) == {"conv2d", "batch_norm", "add", "relu", "mul", "hardtanh"}
    out_of = found.decomposed()
    assert out_of.decomposed is None
    for graph in (found.graph, out_of.graph):
        given = graph(example.clone())
        assert torch.equal(given, model(example.clone()))


def test_what_others_see_changing_is_left_to_pytorch() -> None:
    torch.manual_seed(0)
    example = torch.randn(4, 3)
    for model in (OfView().eval(), OfViewBefore().eval()):
        found = trace(model, example)
        assert found.decomposed is None
        assert not any(name.endswith("_") for name in _names(found.graph))
        given = found.graph(example.clone())
        assert torch.equal(given, model(example.clone()))


def test_functions_that_are_known_only_when_written_out_are_written_out() -> None:
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 6)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.linear(inputs).unflatten(1, (2, 3)).flatten(1).narrow(1, 1, 4)  # type: ignore[no-any-return]

    model, example = Wide().eval(), torch.randn(4, 3)
    traced, division = divided(model, example)
    assert division.whole(traced.graph) is not None


def test_a_long_sequence_is_recorded_as_fast_as_a_short_one() -> None:
    """Its steps, which take milliseconds each, are not written out."""

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([
                nn.LSTM(4, 3, 2, batch_first=True, bidirectional=True),
                nn.GRU(6, 3), nn.RNN(3, 3), nn.RNN(3, 3, nonlinearity="relu"),
            ])  # fmt: skip

        def forward(self, inputs: Tensor) -> Tensor:
            for layer in self.layers:
                inputs = layer(inputs)[0]
            return inputs

    torch.manual_seed(0)
    model, example = Recurrent().eval(), torch.randn(2, 20_000, 4)
    found = trace(model, example)
    assert _names(found.graph) >= {"lstm", "gru", "rnn_tanh", "rnn_relu"}
    shapes = {
        operation_name(node): node.meta["val"][0].shape[1:]
        for node in found.graph.graph.nodes
        if operation_name(node) in ("lstm", "gru")
    }
    assert shapes == {"lstm": (20_000, 6), "gru": (20_000, 3)}
    short = torch.randn(2, 5, 4)
    given = trace(model, short).graph(short)
    assert torch.equal(given, model(short))


class DropsOut(nn.Module):
    """Calls the function below dropout, which gives a mask, too."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 6)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return rows of six numbers."""
        found = torch.relu(self.linear(inputs))
        return torch.native_dropout(found, 0.5, False)[0] + 1


def test_dropout_of_two_results_is_not_taken_for_its_input() -> None:
    torch.manual_seed(0)
    model, inputs = DropsOut().eval(), torch.randn(5, 3)
    assert torch.equal(trace(model, inputs).graph(inputs), model(inputs))
