"""Calls that compaction does not follow are told of; the report is a table."""

import warnings
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gossamer.compression import compact, compaction_report

EXAMPLE = torch.linspace(-1, 2, 24).reshape(4, 6)


class Headed(nn.Module):
    """A body with a head, and other paths through it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head, self.aux = nn.Linear(6, 16), nn.Linear(16, 4), nn.Linear(16, 2)
        self.with_aux = False
        self.head.weight.data[:, ::2] = 0

    def forward(self, x: Tensor, aux: bool = False, hidden: bool = False) -> Any:
        inside = torch.relu(self.body(x))
        if aux or self.with_aux:
            return self.head(inside), self.aux(inside)
        return inside if hidden else self.head(inside)

    def embed(self, x: Tensor) -> Tensor:
        return self.aux(torch.relu(self.body(x)))  # type: ignore[no-any-return]


class AllOf(nn.Module):
    """Makes all the calls that are needed."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Any:
        return self.network(x, aux=True), cast("Any", self.network).embed(x)


def test_flags_and_parts_that_are_not_followed_are_named() -> None:
    match = (
        r"in which aux \(Linear\) is not run, the forward has aux=False, hidden=False: "
        "other calls may fail"
    )
    with pytest.warns(RuntimeWarning, match=match):
        smaller = compact(Headed(), EXAMPLE)
    assert smaller.get_submodule("body").out_features == 8
    report = compaction_report(Headed(), EXAMPLE)
    assert report.unreached == ("aux (Linear)",)
    assert report.defaults == ("aux=False", "hidden=False")


class Optioned(nn.Module):
    """Its options of every type do what no one asked for."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = nn.Linear(6, 16), nn.Linear(16, 4)
        self.head.weight.data[:, ::2] = 0

    def forward(
        self, x: Tensor, save: bool = False, mode: str = "plain", *, mask: Tensor | None = None
    ) -> Any:
        assert not save, "nobody gave this"
        assert (mode, mask) == ("plain", None), "nobody gave this"
        return self.head(torch.relu(self.body(x)))


def test_options_that_nobody_gave_are_listed_but_neither_tried_nor_warned_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compact(Optioned(), EXAMPLE).get_submodule("body").out_features == 8
    report = compaction_report(Optioned(), EXAMPLE)
    assert report.defaults == ("save=False", "mode='plain'", "mask=None")
    assert "Followed with save=False, mode='plain', mask=None only" in str(report)


def test_the_advice_holds_to_compact_what_makes_all_calls() -> None:
    network = Headed()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        smaller: Any = compact(AllOf(network), EXAMPLE)
    torch.testing.assert_close(smaller.network(EXAMPLE), network(EXAMPLE))
    torch.testing.assert_close(smaller.network.embed(EXAMPLE), network.embed(EXAMPLE))


def test_nothing_is_told_where_nothing_was_removed() -> None:
    network = Headed()
    nn.init.normal_(network.head.weight)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compact(network, EXAMPLE)
    assert compaction_report(network, EXAMPLE).unreached == ()


def test_parts_that_run_in_another_way_are_reached() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 4)
            self.by_weight, self.scale = nn.Linear(4, 4), nn.Parameter(torch.ones(4))
            self.attention = nn.MultiheadAttention(4, 2)
            self.in_training, self.blocks = nn.Linear(4, 4), nn.ModuleList([nn.Linear(4, 4)])
            self.unused, self.token = nn.Sequential(nn.Linear(3, 3)), nn.Parameter(torch.ones(5))
            self.last.weight.data[:, :2] = 0

        def forward(self, x: Tensor) -> Tensor:
            x = self.last(torch.relu(self.first(x)))
            if self.training:
                x = self.in_training(x)
            x = functional.linear(x, self.by_weight.weight, self.by_weight.bias) * self.scale
            x, _ = self.attention(x, x, x)
            for block in self.blocks:
                x = block(x)
            return x

    report = compaction_report(Net(), EXAMPLE)
    assert report.shrinks
    assert report.unreached == ("token", "unused (Sequential)")


def test_integers_are_compacted_along_tokens() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.embed, self.first = nn.Embedding(9, 6), nn.Linear(6, 8)
            self.last = nn.Linear(8, 3)
            self.last.weight.data[:, 5:] = 0

        def forward(self, tokens: Tensor) -> Tensor:
            return self.last(torch.relu(self.first(self.embed(tokens))).amax(1))  # type: ignore[no-any-return]

    network, example = Tokens(), torch.arange(8).reshape(2, 4)
    smaller = compact(network, example)
    assert smaller.get_submodule("first").out_features == 5
    others = torch.tensor([[8, 1, 0, 3], [2, 2, 7, 8]])
    torch.testing.assert_close(smaller(others), network(others))


def test_the_report_is_a_table() -> None:
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4), nn.LayerNorm(4))
    network.get_parameter("2.weight").data[:, 3:] = 0
    assert str(compaction_report(network, EXAMPLE)) == (
        "layer  units   inputs  why units stayed\n"
        "0      8 -> 3  6 -> 6\n"
        "2      4 -> 4  8 -> 3  "
        "what it gives is read by 3 (LayerNorm), whose inputs keep their width\n"
        "Parameters: 100 -> 45 (45.0%)"
    )
    text = str(compaction_report(Headed(), EXAMPLE))
    assert "body   16 -> 8  6 -> 6" in text
    assert "Not run by such a call: aux (Linear)" in text
    assert "Followed with aux=False, hidden=False only" in text


@pytest.mark.parametrize("name", ["concat", "concatenate", "hstack", "column_stack"])
@pytest.mark.parametrize("along", [1, -1])
def test_every_name_of_cat_is_followed(name: str, along: int) -> None:
    class Side(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.out = nn.Linear(6, 5), nn.Linear(6, 4), nn.Linear(9, 2)
            self.out.weight.data[:, [0, 7]] = 0

        def forward(self, x: Tensor) -> Tensor:
            options: dict[str, Any] = {} if name.endswith("stack") else {"axis": along}
            return self.out(torch.relu(getattr(torch, name)([self.a(x), self.b(x)], **options)))  # type: ignore[no-any-return]

    network = Side()
    smaller = compact(network, EXAMPLE)
    assert [smaller.get_submodule(n).out_features for n in ("a", "b")] == [4, 3]
    torch.testing.assert_close(smaller(EXAMPLE), network(EXAMPLE))


@pytest.mark.parametrize("name", ["vstack", "row_stack", "dstack"])
def test_stacks_along_other_dimensions_keep_widths_or_are_right(name: str) -> None:
    class Stacked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b = nn.Conv1d(2, 5, 1), nn.Conv1d(2, 5, 1)
            self.out = nn.Conv1d(5, 2, 1)
            self.out.weight.data[:, [0, 3]] = 0

        def forward(self, x: Tensor) -> Tensor:
            return self.out(getattr(torch, name)([self.a(x), self.b(x)]))  # type: ignore[no-any-return]

    network, example = Stacked(), torch.randn(3, 2, 7)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        smaller = compact(network, example)
    torch.testing.assert_close(smaller(example), network(example))
