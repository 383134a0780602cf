import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from gossamer.errors import InputError
from gossamer.nets import NetworkSpec, build, identity
from gossamer.nets.imported import weights_hash

Write = Callable[[str], NetworkSpec]

NETWORK = """
from torch import nn

def network():
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Dropout())
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a module into the current directory, and name its `network`."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)

    def written(source: str) -> NetworkSpec:
        Path("home_made.py").write_text(source)
        for name in set(sys.modules) - before:
            if name.partition(".")[0] == "home_made":
                del sys.modules[name]
        importlib.invalidate_caches()
        for stale in Path().glob("__pycache__/*"):
            stale.unlink()
        return NetworkSpec(name="home_made:network")

    yield written
    sys.modules.pop("home_made", None)


def refusal(spec: NetworkSpec, shape: tuple[int, ...] = (2, 2), classes: int = 3) -> str:
    with pytest.raises(InputError) as caught:
        build(spec, shape, classes, seed=0)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_network_is_seeded_and_in_training_mode(write: Write) -> None:
    spec = write(NETWORK)
    path, state = list(sys.path), torch.get_rng_state()
    first = build(spec, (2, 2), 3, seed=1)
    assert sys.path == path
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(77)
    second = build(spec, (2, 2), 3, seed=1)
    other = build(spec, (2, 2), 3, seed=2)
    assert first.training
    assert first.get_submodule("2").training
    assert torch.equal(first.get_parameter("1.weight"), second.get_parameter("1.weight"))
    assert not torch.equal(first.get_parameter("1.weight"), other.get_parameter("1.weight"))


def test_network_becomes_float32(write: Write) -> None:
    spec = write(NETWORK.replace("nn.Linear(4, 3)", "nn.Linear(4, 3).double()"))
    assert build(spec, (2, 2), 3, seed=0).get_parameter("1.weight").dtype == torch.float32


def test_lazy_layers_take_their_shape_from_the_examples(write: Write) -> None:
    spec = write(NETWORK.replace("nn.Linear(4, 3)", "nn.LazyLinear(3)"))
    assert build(spec, (2, 2), 3, seed=0).get_parameter("1.weight").shape == (3, 4)


def test_network_may_import_its_neighbours_when_called(write: Write) -> None:
    Path("home_made_neighbour.py").write_text("width = 4\n")
    spec = write(
        "from torch import nn\n"
        "def network():\n"
        "    from home_made_neighbour import width\n"
        "    return nn.Linear(width, 3)\n"
    )
    assert build(spec, (4,), 3, seed=0)(torch.zeros(1, 4)).shape == (1, 3)
    del sys.modules["home_made_neighbour"]


def test_identity_follows_source_and_weights(write: Write) -> None:
    spec = write(NETWORK)
    first = identity(spec, (2, 2), 3, seed=0)
    assert json.loads(json.dumps(first)) == first
    assert first == identity(spec, (2, 2), 3, seed=0)
    assert identity(spec, (2, 2), 3, seed=1)["weights"] != first["weights"]
    commented = identity(write(NETWORK + "# a comment\n"), (2, 2), 3, seed=0)
    assert commented["weights"] == first["weights"]
    assert commented["sources"] != first["sources"]


def test_identity_holds_the_sources_of_all_layers(write: Write) -> None:
    layers = Path("home_made_layers.py")
    layers.write_text("from torch import nn\nclass Dense(nn.Linear):\n    pass\n")
    spec = write("from home_made_layers import Dense\ndef network():\n    return Dense(4, 3)\n")
    sources = identity(spec, (4,), 3, seed=0)["sources"]
    assert sorted(sources) == ["home_made", "home_made_layers"]
    del sys.modules["home_made_layers"]


@pytest.mark.parametrize(
    "changed",
    [
        {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor(3)},
        {"b": torch.tensor(2), "a": torch.tensor([1.0, 2.0])},
        {"a": torch.tensor([[1.0, 2.0]]), "b": torch.tensor(2)},
        {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor(2, dtype=torch.int32)},
        {"c": torch.tensor([1.0, 2.0]), "b": torch.tensor(2)},
    ],
)
def test_weights_hash_tells_apart(changed: dict[str, torch.Tensor]) -> None:
    state = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor(2)}
    assert weights_hash(state) != weights_hash(changed)
    assert weights_hash(state) == weights_hash({name: t.clone() for name, t in state.items()})


def test_weights_hash_takes_any_layout_and_dtype() -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    assert weights_hash({"a": weight.T.contiguous().T}) == weights_hash({"a": weight})
    for dtype in (torch.bfloat16, torch.bool, torch.complex64):
        assert len(weights_hash({"a": weight.to(dtype)})) == 64


def test_malformed_name() -> None:
    for name in ("home_made:", ":network", "home-made:network", "home_made:a:b"):
        assert "is not of the form 'package.module:callable'" in refusal(NetworkSpec(name=name))


def test_module_not_found(write: Write) -> None:
    write(NETWORK)
    assert "there is no module 'absent_package' in" in refusal(
        NetworkSpec(name="absent_package.networks:network")
    )
    assert "there is no module 'home_made.deeper' in" in refusal(
        NetworkSpec(name="home_made.deeper:network")
    )


def test_module_that_fails(write: Write) -> None:
    message = refusal(write("raise RuntimeError('first line\\nsecond line')"))
    assert "fails when it is imported (RuntimeError: first line second line)" in message
    assert "(ModuleNotFoundError: No module named 'absent')" in refusal(write("import absent"))
    assert "(SystemExit: 3)" in refusal(write("import sys; sys.exit(3)"))


def test_attribute_missing(write: Write) -> None:
    assert "The module 'home_made' of the network 'home_made:network' has no 'network'" in refusal(
        write("net = 1")
    )


def test_not_callable(write: Write) -> None:
    assert "is of type int, but a function or class was expected" in refusal(write("network = 1"))


def test_callable_that_fails(write: Write) -> None:
    message = refusal(write("def network():\n    raise KeyError('x')"))
    assert "fails when it is called without arguments (KeyError: 'x')" in message
    assert "missing 1 required positional argument" in refusal(write("def network(x): ..."))


def test_not_a_module(write: Write) -> None:
    assert "returned a value of type int, but a torch.nn.Module" in refusal(
        write("def network():\n    return 3")
    )


def test_no_parameters(write: Write) -> None:
    assert "has no parameters" in refusal(write("from torch.nn import Flatten as network"))


def test_forward_that_fails(write: Write) -> None:
    message = refusal(write(NETWORK), shape=(3, 3))
    assert "fails on an input of shape (2, 3, 3) (RuntimeError: mat1 and mat2" in message


def test_wrong_output(write: Write) -> None:
    assert (
        "gives an output of shape (2, 3) for an input of shape (2, 2, 2), but (2, 5) was expected"
        in refusal(write(NETWORK), classes=5)
    )
    source = (
        "from torch import nn\n"
        "class network(nn.Linear):\n"
        "    def __init__(self):\n"
        "        super().__init__(4, 3)\n"
        "    def forward(self, values):\n"
        "        return (super().forward(values), 1)\n"
    )
    assert "gives an output of tuple for" in refusal(write(source), shape=(4,))


def test_failures_restore_path_and_generator(write: Write) -> None:
    spec = write("import torch\ndef network():\n    torch.rand(3)\n    return 1")
    path, state = list(sys.path), torch.get_rng_state()
    refusal(spec)
    assert sys.path == path
    assert torch.equal(torch.get_rng_state(), state)
