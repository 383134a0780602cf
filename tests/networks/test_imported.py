import importlib
import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from gossamer.core.errors import InputError
from gossamer.networks import NetworkSpec, build, identity
from gossamer.networks.imported import weights_hash

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


def sources(name: str, files: dict[str, str]) -> dict[str, str]:
    """Return the hashed sources of a network of files in the current directory, loaded afresh."""
    for file, text in files.items():
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(text)
    loaded = set(sys.modules)
    importlib.invalidate_caches()
    found: dict[str, str] = identity(NetworkSpec(name=name), (4,), 3, seed=0)["sources"]
    for module in set(sys.modules) - loaded:
        if module.startswith("own"):
            del sys.modules[module]
    return found


def test_identity_holds_what_the_network_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    files = {
        "own/__init__.py": "",
        "own/net.py": (
            "import json, numpy, own_tools.text\n"
            "from torch import nn\n"
            "from . import layers\n"
            "from .numbers import WIDTH as width\n"
            "def make():\n    return layers.Dense(width, 3)\n"
        ),
        "own/layers.py": (
            "from own.base import Base\n"
            "class Dense(Base):\n"
            "    def forward(self, x):\n"
            "        if self.training:\n            import own_late\n"
            "        return super().forward(x)\n"
        ),
        "own/base.py": "from torch import nn\nclass Base(nn.Linear):\n    pass\n",
        "own/numbers.py": "WIDTH = 4\n",
        "own/other.py": "import own.net\n",
        "own_tools/text.py": "",
        "own_late.py": "print 'of an older Python, and not yet imported'\n",
        "own_script.py": "",
    }
    first = sources("own.net:make", files)
    assert list(first) == [
        "own", "own.base", "own.layers", "own.net", "own.numbers", "own_late", "own_tools.text",
    ]  # fmt: skip
    for name in ("own/base.py", "own/numbers.py", "own_late.py", "own_tools/text.py"):
        changed = sources("own.net:make", files | {name: files[name] + "# changed\n"})
        module = name.removesuffix(".py").replace("/", ".")
        assert {key for key in first if first[key] != changed[key]} == {module}
    assert sources("own.net:make", files) == first


def test_identity_does_not_depend_on_what_else_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    make = "from torch import nn\ndef make():\n    return nn.Linear(4, 3)\n"
    files = {"own/__init__.py": "", "own/one.py": make, "own/two.py": make}
    first = sources("own.one:make", files)
    importlib.import_module("own.two")
    assert sources("own.one:make", {}) == first
    for module in ("own", "own.one", "own.two"):
        sys.modules.pop(module, None)


def test_identity_follows_base_classes_made_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = sources(
        "own_net:make",
        {
            "own_base.py": "from torch import nn\nclass Base(nn.Linear):\n    pass\n",
            "own_net.py": (
                "import importlib\n"
                "class Dense(importlib.import_module('own_base').Base):\n    pass\n"
                "def make():\n    return Dense(4, 3)\n"
            ),
        },
    )
    assert list(found) == ["own_base", "own_net"]


def test_identity_of_an_installed_network_holds_its_package_and_layers_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "site-packages"
    installed.mkdir()
    monkeypatch.chdir(installed)
    found = sources(
        "own:make",
        {
            "own/__init__.py": (
                "import own_layers, own_tools\n"
                "from own.widths import WIDTH\n"
                "def make():\n    return own_layers.Dense(WIDTH, 3)\n"
            ),
            "own/widths.py": "WIDTH = 4\n",
            "own_layers.py": (
                "import own_tools\nfrom torch import nn\nclass Dense(nn.Linear):\n    pass\n"
            ),
            "own_tools.py": "",
        },
    )
    assert list(found) == ["own", "own.widths", "own_layers"]


def test_identity_of_a_layer_without_source(write: Write) -> None:
    spec = write(
        "from torch import nn\n"
        "def network():\n"
        "    return type('Dense', (nn.Linear,), {'__module__': 'nowhere'})(4, 3)\n"
    )
    with pytest.raises(InputError, match="The module 'nowhere' has no source file"):
        identity(spec, (4,), 3, seed=0)


def test_numpy_and_random_are_seeded_and_restored(write: Write) -> None:
    spec = write(
        "import random\nimport numpy as np\nimport torch\nfrom torch import nn\n"
        "def network():\n"
        "    layer = nn.Linear(4, 3)\n"
        "    layer.weight.data = torch.from_numpy(np.random.rand(3, 4))\n"
        "    layer.bias.data.fill_(random.random())\n"
        "    return layer\n"
    )
    before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
    first = build(spec, (4,), 3, seed=1)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # type: ignore[index]  # noqa: NPY002
    for seed, same in ((1, True), (2, False)):
        again = build(spec, (4,), 3, seed)
        for name, parameter in first.named_parameters():
            assert torch.equal(parameter, again.get_parameter(name)) == same


def test_identity_follows_buffers_that_are_not_persistent(write: Write) -> None:
    spec = write(
        "import torch\nfrom torch import nn\n"
        "def network():\n"
        "    layer = nn.Linear(4, 3)\n"
        "    with torch.no_grad():\n        layer.weight.zero_(), layer.bias.zero_()\n"
        "    layer.register_buffer('mixing', torch.rand(3), persistent=False)\n"
        "    return layer\n"
    )
    first, second = (identity(spec, (4,), 3, seed)["weights"] for seed in (0, 1))
    assert first != second
    assert first == identity(spec, (4,), 3, seed=0)["weights"]


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


def test_not_a_module(write: Write) -> None:
    assert "returned a value of type int, but a torch.nn.Module" in refusal(
        write("def network():\n    return 3")
    )


def test_no_parameters(write: Write) -> None:
    assert "has no parameters" in refusal(write("from torch.nn import Flatten as network"))


def test_only_frozen_parameters(write: Write) -> None:
    frozen = NETWORK.replace("nn.Dropout())", "nn.Dropout()).requires_grad_(False)")
    assert "has only frozen parameters" in refusal(write(frozen))


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
