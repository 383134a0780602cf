"""Arguments of a user's own network: read, checked, and part of what identifies it."""

import datetime
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import nn

from gossamer.core.errors import InputError
from gossamer.networks import NetworkSpec, build, identity
from gossamer.networks.arguments import parsed_arguments, typed_arguments
from gossamer.networks.imported import imported_network

SOURCE = """
from torch import nn

def network(width, depth=1, *, sizes=(), act="relu"):
    middle = [nn.Linear(width, width) for _ in range(depth - 1)]
    sizes.append(3) if isinstance(sizes, list) else None
    return nn.Sequential(nn.Flatten(), nn.Linear(4, width), *middle, nn.Linear(width, 3))

class Open(nn.Sequential):
    def __init__(self, **options):
        super().__init__(nn.Flatten(), nn.Linear(4, options.get("width", 3)), nn.Linear(5, 3))

def closed(width, /):
    return network(width)

def plain():
    return network(2)
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "with_arguments.py"
    path.write_text(SOURCE)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "in_a_file.py").write_text("from beside import network\n")
    (tmp_path / "sub" / "beside.py").write_text(SOURCE)
    yield path
    for name in ("with_arguments", "in_a_file", "beside"):
        sys.modules.pop(name, None)


def spec(name: str = "network", **args: object) -> NetworkSpec:
    return NetworkSpec(name=f"with_arguments:{name}", args=args)


def widths(given: NetworkSpec) -> list[tuple[int, ...]]:
    return [tuple(p.shape) for p in build(given, (2, 2), 3, seed=0).parameters() if p.dim() == 2]


def refusal(given: NetworkSpec) -> str:
    with pytest.raises(InputError) as caught:
        build(given, (2, 2), 3, seed=0)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_callable_gets_its_arguments() -> None:
    assert widths(spec(width=5)) == [(5, 4), (3, 5)]
    assert widths(spec(width=2, depth=2)) == [(2, 4), (2, 2), (3, 2)]
    assert widths(spec("Open", width=5)) == [(5, 4), (3, 5)]


def test_a_callable_cannot_change_what_it_is_given_the_next_time() -> None:
    given = spec(width=2, sizes=[1])
    widths(given)
    assert given.args == {"width": 2, "sizes": [1]}


def test_arguments_are_part_of_what_identifies_a_network_only_where_there_are_any() -> None:
    assert "args" not in identity(spec("plain"), (2, 2), 3, seed=0)
    narrow, wide = (identity(spec(width=w), (2, 2), 3, seed=0) for w in (2, 3))
    assert (narrow["args"], wide["args"]) == ({"width": 2}, {"width": 3})
    assert identity(spec(width=2, act="tanh"), (2, 2), 3, seed=0) != narrow  # same weights


def test_equal_networks_have_equal_hashes_in_whatever_order_arguments_came() -> None:
    one, other = spec(width=2, depth=1), spec(depth=1, width=2)
    assert one == other
    assert hash(one) == hash(other)
    assert one != spec(width=3, depth=1)
    assert one.shown == "with_arguments:network(depth=1, width=2)"
    assert NetworkSpec(name="mlp").shown == "mlp"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (spec(), "cannot be called without width: give args = { width = ... } in [network]"),
        (spec(width=2, dpeth=1), "no parameter 'dpeth' (did you mean 'depth'?): it takes width, "
         "depth, sizes and act"),
        (spec("plain", width=2), "has no parameter 'width': it takes none"),
        (spec("closed", width=2), "has no parameter 'width': it takes none"),
        (spec("closed"), "takes width by position only"),
        (spec(width="wide"), "fails when it is called as with_arguments:network(width='wide')"),
        (spec(width="wide"), "width was taken as the text 'wide'; give what it can work with, or"),
    ],
)  # fmt: skip
def test_what_a_callable_does_not_take_is_a_sentence(given: NetworkSpec, told: str) -> None:
    assert told in refusal(given)


def test_published_networks_take_none() -> None:
    with pytest.raises(ValueError, match="only one's own callable takes arguments"):
        NetworkSpec(name="mlp", args={"width": 3})


@pytest.mark.parametrize("value", [datetime.date(2026, 1, 1), float("nan"), {"a": float("inf")}])
def test_what_no_key_could_hold_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"width = .* is of no kind that a network can be given"):
        spec(width=value)


def test_a_command_line_is_read_as_a_file_is() -> None:
    given = ["a=3", "b = 0.5", "c=true", "d=relu", 'e="true"', "f=[1, 2]", "g=", "h={ a = 1 }"]
    assert parsed_arguments(given) == {
        "a": 3, "b": 0.5, "c": True, "d": "relu", "e": "true", "f": [1, 2], "g": "",
        "h": {"a": 1},
    }  # fmt: skip
    assert parsed_arguments(["file=a=b.txt"]) == {"file": "a=b.txt"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["width"], "--network-arg 'width': expected name=value, such as width=32"),
        (["=3"], "expected name=value"),
        (["my-width=3"], "expected name=value"),
        (["a=1", "a=2"], "'a' is given twice"),
        (["a=2026-01-01"], "is of no kind that a network can be given"),
        (["a=nan"], "is of no kind"),
    ],
)
def test_a_command_line_that_cannot_be_read_is_a_sentence(given: list[str], told: str) -> None:
    with pytest.raises(InputError) as caught:
        parsed_arguments(given)
    assert told in str(caught.value)


def test_a_module_may_be_given_as_its_file() -> None:
    path = list(sys.path)
    given = NetworkSpec(name="sub/in_a_file.py:network", args={"width": 5})
    assert widths(given) == [(5, 4), (3, 5)]
    assert sys.path == path
    assert set(identity(given, (2, 2), 3, seed=0)["sources"]) == {"in_a_file", "beside"}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("sub/nowhere.py:network", "is in sub/nowhere.py, but there is no such file"),
        ("sub/json.py:network", "Python has another module 'json' already"),
        ("sub/in_a_file.py:nothing", "has no 'nothing'"),
        ("sub/in-a-file.py:network", "there is no such file"),
    ],
)
def test_a_file_that_cannot_be_used_is_a_sentence(name: str, told: str) -> None:
    Path("sub/json.py").write_text(SOURCE)
    assert told in refusal(NetworkSpec(name=name))


def test_a_command_line_may_be_written_as_python_is() -> None:
    given = ["a=False", "b=True", "c=None", "d=.5", "e=(8, 4)", "f='7'", "g=1_000", "h=none"]
    assert parsed_arguments(given) == {
        "a": False, "b": True, "c": None, "d": 0.5, "e": (8, 4), "f": "7", "g": 1000, "h": "none",
    }  # fmt: skip


def annotated(
    width: int,
    rate: float = 0.5,
    norm: str = "batch",
    sizes: tuple[int, ...] = (),
    kind: Literal["relu", "gelu"] = "relu",
    limit: float | None = 1.0,
    deep: bool = False,
    layer: type[nn.Module] = nn.Linear,
) -> None: ...


def bare(width=64, norm="batch"): ...  # type: ignore[no-untyped-def]


def postponed(width: "int", other: "NotHere" = 3) -> None: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("make", "text", "value"),
    [
        (annotated, "width=3", 3),
        (annotated, "rate=1", 1.0),
        (annotated, "norm=layer", "layer"),
        (annotated, """norm='7'""", "7"),
        (annotated, "sizes=[8, 4]", (8, 4)),
        (annotated, "kind=gelu", "gelu"),
        (annotated, "limit=None", None),
        (annotated, "limit=2", 2.0),
        (annotated, "deep=False", False),
        (bare, "width=0.5", 0.5),
        (bare, "norm=7", 7),
        (postponed, "width=3", 3),
        (postponed, "other=x", "x"),
        (functools.partial(annotated, 3), "rate=1", 1.0),
    ],
)
def test_a_value_gets_the_type_of_its_parameter(
    make: Callable[..., object], text: str, value: object
) -> None:
    (found,) = typed_arguments("mine", make, parsed_arguments([text])).values()
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("width=wide", "takes width as int, but 'wide' was given: "),
        ("width=0.5", "takes width as int, but 0.5 was given: "),
        ("norm=7", """takes norm as str, but 7 was given; quote it, norm='"7"': """),
        ("kind=tanh", "takes kind as Literal['relu', 'gelu'], but 'tanh' was given"),
        ("sizes=[a]", "takes sizes as tuple[int, ...], but '[a]' was given"),
        ("layer=Linear", "but 'Linear' was given"),
    ],
)
def test_a_value_of_another_type_is_a_sentence(text: str, told: str) -> None:
    with pytest.raises(InputError) as caught:
        typed_arguments("mine", annotated, parsed_arguments([text]))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_network_may_have_any_number_of_outputs_where_none_is_asked_for() -> None:
    network = imported_network("with_arguments:network", (2, 2), None, 0, {"width": 5})
    assert network(torch.zeros(2, 2, 2)).shape == (2, 3)
    with pytest.raises(InputError, match=r"gives an output of shape \(2, 3\).*\(2, 4\)"):
        imported_network("with_arguments:network", (2, 2), 4, 0, {"width": 5})
    with pytest.raises(InputError, match="take a batch of examples of --input-shape"):
        imported_network("with_arguments:network", (3, 7), None, 0, {"width": 5})
