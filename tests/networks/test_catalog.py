import json
import subprocess
import sys

import pytest
import torch
from pydantic import ValidationError

import gossamer.networks
from gossamer.core.errors import InputError
from gossamer.networks import NetworkSpec, build, identity, initialise, mlp, names
from gossamer.networks.initial import Initialisation

MNIST = (1, 28, 28)


def test_spec_and_identity_need_no_torch() -> None:
    program = (
        "import sys\n"
        "from gossamer.networks import NetworkSpec, identity, names\n"
        "for name in names():\n"
        "    identity(NetworkSpec(name=name), (1, 28, 28), 10, 0)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_face_holds_all_that_it_names() -> None:
    assert all(hasattr(gossamer.networks, name) for name in gossamer.networks.__all__)
    with pytest.raises(AttributeError, match="no attribute 'resnet'"):
        gossamer.networks.resnet  # noqa: B018


def test_spec_refuses_unknown_fields_and_is_frozen() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        NetworkSpec.model_validate({"name": "mlp", "width": 3})
    spec = NetworkSpec(name="mlp")
    with pytest.raises(ValidationError, match="frozen"):
        spec.name = "fashion-cnn"  # type: ignore[misc]


def test_spec_refuses_hidden_of_other_networks() -> None:
    with pytest.raises(ValidationError, match="'hidden' was given for the network 'fashion-cnn'"):
        NetworkSpec(name="fashion-cnn", hidden=(3,))


def test_spec_refuses_empty_layers() -> None:
    with pytest.raises(ValidationError, match="greater than 0"):
        NetworkSpec(name="mlp", hidden=(3, 0))


@pytest.mark.parametrize("name", names())
def test_built_networks_are_ready_to_train(name: str) -> None:
    network = build(NetworkSpec(name=name), MNIST, 10, seed=0)
    assert network.training
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert network(torch.zeros(2, *MNIST)).shape == (2, 10)


def test_build_is_seeded_and_leaves_the_global_generator() -> None:
    spec = NetworkSpec(name="mlp", hidden=(5,))
    before = torch.get_rng_state()
    first = build(spec, MNIST, 10, seed=4)
    assert torch.equal(torch.get_rng_state(), before)
    expected = mlp(784, 10, hidden=(5,))
    initialise(expected, seed=4)
    for name, parameter in expected.named_parameters():
        assert torch.equal(first.get_parameter(name), parameter)
    other = build(spec, MNIST, 10, seed=5)
    assert not torch.equal(
        first.get_parameter("dense1.weight"), other.get_parameter("dense1.weight")
    )


def test_identity_resolves_defaults_and_is_json() -> None:
    default = identity(NetworkSpec(name="mlp"), MNIST, 10, seed=0)
    spelt_out = NetworkSpec(name="mlp", hidden=(1000, 1000, 500, 200))
    assert default == identity(spelt_out, MNIST, 10, seed=0)
    assert json.loads(json.dumps(default)) == {
        "name": "mlp",
        "version": 1,
        "options": {
            "input_shape": [1, 28, 28],
            "classes": 10,
            "hidden": [1000, 1000, 500, 200],
        },
        "initialisation": {"name": "glorot-uniform", "version": 1},
    }


def test_identity_of_the_fashion_network_stays_as_stored() -> None:
    assert json.dumps(identity(NetworkSpec(name="fashion-cnn"), MNIST, 10, seed=0)) == (
        '{"name": "fashion-cnn", "version": 1, '
        '"options": {"input_shape": [1, 28, 28], "classes": 10}, '
        '"initialisation": {"name": "glorot-uniform", "version": 1}}'
    )


@pytest.mark.parametrize(
    ("name", "hidden"),
    [("cifar-dropout-cnn", [512, 128]), ("cifar-wide-cnn", [2048, 512, 128, 32])],
)
def test_identity_resolves_the_head(name: str, hidden: list[int]) -> None:
    default = identity(NetworkSpec(name=name), (3, 32, 32), 10, seed=0)
    assert default["options"]["hidden"] == hidden
    other = identity(NetworkSpec(name=name, hidden=(128, 32)), (3, 32, 32), 10, seed=0)
    assert other["options"]["hidden"] == [128, 32]


@pytest.mark.parametrize(
    ("name", "initialisation"), [("mnist-cnn", "pytorch"), ("cifar-cnn", "glorot-uniform")]
)
def test_network_is_initialised_as_it_was_published(
    name: str, initialisation: Initialisation
) -> None:
    spec = NetworkSpec(name=name)
    assert identity(spec, MNIST, 10, seed=2)["initialisation"]["name"] == initialisation
    built, expected = build(spec, MNIST, 10, seed=2), build(spec, MNIST, 10, seed=3)
    initialise(expected, seed=2, initialisation=initialisation)
    for parameter, drawn in zip(built.parameters(), expected.parameters(), strict=True):
        assert torch.equal(parameter, drawn)


def test_built_network_has_the_head_asked_for() -> None:
    network = build(NetworkSpec(name="cifar-dropout-cnn", hidden=(7,)), (3, 8, 8), 5, seed=0)
    assert network.get_parameter("dense1.weight").shape == (7, 128)
    assert network.get_parameter("output.weight").shape == (5, 7)


@pytest.mark.parametrize("function", [build, identity])
def test_unknown_name(function: object) -> None:
    assert callable(function)
    with pytest.raises(InputError) as caught:
        function(NetworkSpec(name="fashion_cnn"), MNIST, 10, 0)
    assert str(caught.value) == (
        "There is no network 'fashion_cnn' (did you mean 'fashion-cnn'?): give one of "
        "'cifar-cnn', 'cifar-dropout-cnn', 'cifar-wide-cnn', 'fashion-cnn', 'mlp', 'mnist-cnn', "
        "or 'package.module:callable' for your own."
    )
    with pytest.raises(InputError, match=r"There is no network 'zzz': give one of"):
        function(NetworkSpec(name="zzz"), MNIST, 10, 0)


@pytest.mark.parametrize("function", [build, identity])
def test_examples_that_do_not_suit(function: object) -> None:
    assert callable(function)
    with pytest.raises(InputError, match="8x8 pixels, but expected at least 10x10"):
        function(NetworkSpec(name="fashion-cnn"), (1, 8, 8), 10, 0)
    with pytest.raises(InputError, match="'cifar-wide-cnn' got images of 7x8 pixels, but expected"):
        function(NetworkSpec(name="cifar-wide-cnn"), (3, 7, 8), 10, 0)
    with pytest.raises(InputError, match=r"input shape is \(\)"):
        function(NetworkSpec(name="mlp"), (), 10, 0)
