"""Parameters of unusual types, layouts and origins: each is pruned, or refused in a sentence."""

import copy
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn, optim
from torch.distributed.fsdp import fully_shard
from torch.nn.utils import parametrizations

from gossamer import Block, NByM, compact, compress, find_mask, prune
from gossamer.core.errors import InputError
from gossamer.masks import Mask
from gossamer.masks.values import clear, nonzero
from gossamer.measures.functional import size

EIGHT_BITS = [
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2fnuz,
]


def network() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


@pytest.mark.parametrize("kind", EIGHT_BITS)
def test_eight_bit_floats_are_cleared_and_counted(kind: torch.dtype) -> None:
    values = torch.tensor([1.0, -2.0, 0.0, -0.5]).to(kind)
    assert nonzero(values).tolist() == [True, True, False, True]
    clear(values, torch.tensor([False, True, False, True]))
    assert values.float().tolist() == [1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("pattern", ["weight", "unit", NByM(2, 4), Block(4, 1)])
@pytest.mark.parametrize("kind", EIGHT_BITS)
def test_weights_of_eight_bits_are_pruned_exactly(kind: torch.dtype, pattern: object) -> None:
    model = network()
    for layer in (model[0], model[2]):
        layer.weight = nn.Parameter(layer.weight.detach().to(kind), requires_grad=False)
    sparsity = None if isinstance(pattern, NByM) else 0.5
    mask = prune(model, sparsity, pattern=pattern)  # type: ignore[arg-type]
    zeros = sum(int((model[i].weight.float() == 0).sum()) for i in (0, 2))
    assert mask.zeros == 96 == zeros
    assert mask.violations(model) == {}
    counted = size(model, list(mask.weights))
    assert (counted.prunable, counted.prunable_nonzero) == (192, 96)
    assert counted.bytes_dense == 192 + 4 * 20


def test_weights_made_in_inference_mode_are_pruned_and_compressed_but_not_trained() -> None:
    with torch.inference_mode():
        model = network()
    mask = prune(model, 0.5, pattern="unit", exclude="2")
    assert mask.violations(model) == {}
    assert int((model[0].weight == 0).all(1).sum()) == 8
    given = torch.rand(5, 8)
    with torch.inference_mode():
        expected = model(given).clone()
    for smaller in (compact(model, given), compress(model, given, choose="engine")):
        assert torch.allclose(smaller(given), expected, atol=1e-6)
    with pytest.raises(InputError, match=r"0.weight was made in torch.inference_mode.*deepcopy"):
        mask.enforce(model, optim.SGD(model.parameters()))
    with torch.inference_mode():  # and pruned there, too
        assert prune(model, 0.75).sparsity == 0.75


def test_a_copy_of_what_was_made_in_inference_mode_can_be_trained_as_the_message_says() -> None:
    with torch.inference_mode():
        model = network()
    twin = copy.deepcopy(model)
    mask = prune(twin, 0.5)
    optimizer = optim.SGD(twin.parameters(), 0.1)
    mask.enforce(twin, optimizer)
    twin(torch.rand(3, 8)).sum().backward()
    optimizer.step()
    assert mask.violations(twin) == {}


REFUSED: dict[str, tuple[Callable[[Tensor], nn.Parameter], str]] = {
    "meta": (lambda w: nn.Parameter(w.to("meta")), "on the meta device and has no values"),
    "sparse": (lambda w: nn.Parameter(w.to_sparse()), "only dense weights can be pruned"),
    "rows": (lambda w: nn.Parameter(w.to_sparse_csr()), "only dense weights can be pruned"),
    "nested": (
        lambda w: nn.Parameter(torch.nested.nested_tensor([w, w[:1]])),
        "is a nested tensor, whose values lie in other tensors",
    ),
    "jagged": (
        lambda w: nn.Parameter(torch.nested.nested_tensor([w, w[:1]], layout=torch.jagged)),
        "is a nested tensor, whose values lie in other tensors",
    ),
    "without zero": (
        lambda w: nn.Parameter(w.abs().to(torch.float8_e8m0fnu), requires_grad=False),
        "cannot hold a zero by itself",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.filterwarnings("ignore:Sparse CSR", "ignore:The PyTorch API of nested tensors")
def test_what_cannot_be_set_to_zero_is_refused_in_a_sentence(kind: str) -> None:
    make, message = REFUSED[kind]
    model = network()
    mask = find_mask(model, 0.5)
    model[0].weight = make(model[0].weight.detach())
    for call in (
        lambda: prune(model, 0.5),
        lambda: mask.apply(model),
        lambda: mask.violations(model),
        lambda: mask.enforce(model, optim.SGD(model[2].parameters())),
    ):
        with pytest.raises(InputError, match=message):
            call()
    assert list(prune(model, 0.5, exclude="0")) == ["2.weight"]


@pytest.fixture
def one_process() -> Iterator[None]:
    store = distributed.HashStore()  # type: ignore[attr-defined]
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process")
@pytest.mark.filterwarnings("ignore")  # of torch, about the absence of an accelerator
def test_sharded_weights_are_refused_and_replicated_ones_are_held() -> None:
    model = network()
    mask = prune(model, 0.5, exclude="2")
    replicated = nn.parallel.DistributedDataParallel(model)
    optimizer = optim.AdamW(replicated.parameters(), 0.1)
    mask.enforce(replicated, optimizer)
    for _ in range(2):
        optimizer.zero_grad()
        replicated(torch.rand(3, 8)).square().sum().backward()
        gradient = model[0].weight.grad
        assert not gradient[~mask["0.weight"]].any()
        optimizer.step()
        assert mask.violations(replicated) == mask.violations(model) == {}
    sharded: Any = fully_shard(network())
    for call in (
        lambda: prune(sharded, 0.5),
        lambda: mask.violations(sharded),
        lambda: mask.enforce(sharded, optim.SGD(sharded.parameters())),
    ):
        with pytest.raises(InputError, match=r"is sharded \(a DTensor\).*before sharding"):
            call()


def test_a_network_in_pieces_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class FullyShardedDataParallel(nn.Module):
        """Stands for torch's, which needs an accelerator."""

        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self._fsdp_wrapped_module = module

    stand_in = SimpleNamespace(FullyShardedDataParallel=FullyShardedDataParallel)
    monkeypatch.setitem(sys.modules, "torch.distributed.fsdp", stand_in)
    model = network()
    mask = find_mask(model, 0.5)
    for whole in (FullyShardedDataParallel(model), nn.Sequential(FullyShardedDataParallel(model))):
        for call in (lambda: prune(whole, 0.5), lambda: mask.apply(whole)):  # noqa: B023
            with pytest.raises(InputError, match="prune the network before it is wrapped"):
                call()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("whole", [True, False])
def test_scripted_modules_are_refused(whole: bool) -> None:
    scripted = torch.jit.script(network())
    model = scripted if whole else nn.Sequential(nn.Linear(8, 8), scripted)
    with pytest.raises(InputError, match=r"belongs to a scripted module.*prune the network before"):
        prune(model, 0.5)
    if not whole:
        assert list(prune(model, 0.5, exclude="1")) == ["0.weight"]
    mask = find_mask(network(), 0.5)
    mask.apply(scripted)  # its parameters have names and values as any
    assert mask.violations(scripted) == {}


class Named(nn.Module):
    """A layer with a parameter of any name, and plain tensors of any names."""

    def __init__(self, name: str, **tensors: Tensor) -> None:
        super().__init__()
        self.register_parameter(name, nn.Parameter(torch.rand(4, 4)))
        for other, value in tensors.items():
            setattr(self, other, value)


@pytest.mark.parametrize(
    ("name", "beside"),
    [
        ("proj_w", "proj"),
        ("weight_g", "weight"),
        ("weight_orig", "weight"),
        ("weight_v", "weight"),
        ("scale_of_it", "scale_of"),
    ],
)
def test_a_name_alone_makes_no_weight_a_computed_one(name: str, beside: str) -> None:
    model = nn.Sequential(Named(name, **{beside: torch.ones(3)}), nn.Linear(4, 4))
    model[0].register_forward_pre_hook(lambda *_: None)
    assert list(find_mask(model, 0.5, include="0")) == [f"0.{name}", "1.weight"]


PRUNED: Any = nn.utils.prune.l1_unstructured


def weights_of(layer: nn.Module) -> dict[str, Tensor]:
    names = ("weight", "weight_ih_l0", "weight_hh_l0")
    return {name: getattr(layer, name) for name in names if hasattr(layer, name)}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    "computed",
    [
        parametrizations.orthogonal,
        parametrizations.weight_norm,
        lambda layer: PRUNED(layer, "weight", 0.5),
        lambda layer: nn.utils.spectral_norm(layer),
        lambda layer: nn.utils.weight_norm(layer, name="weight_ih_l0"),
    ],
)
def test_weights_that_are_computed_are_known_by_what_computes_them(
    computed: Callable[[nn.Module], nn.Module],
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            layer = computed(nn.Linear(4, 4))
        except AttributeError:
            layer = computed(nn.LSTM(4, 4))
    model = nn.Sequential(layer)
    with pytest.raises(InputError, match="is computed from others") as refused:
        find_mask(model, 0.5)
    (advice,) = re.findall("`(.*)`", str(refused.value))
    model.eval()(torch.ones(2, 4))
    before = {name: value.detach().clone() for name, value in weights_of(layer).items()}
    eval(advice, {"torch": torch, "model": model})  # what it says makes a weight that is pruned
    for name, value in weights_of(layer).items():
        torch.testing.assert_close(value, before[name])
    find_mask(model, 0.5)


def test_the_process_ends_without_a_word_though_torch_keeps_a_network_alive() -> None:
    # The hook of a parameter holds the globals, and they hold the engine.
    code = (
        "import sys, torch, gossamer;"
        "model = torch.nn.Linear(4, 4);"
        "hook = eval('lambda parameter: None');"
        "_ = model.weight.register_post_accumulate_grad_hook(hook);"
        "small = gossamer.compress(model, torch.rand(2, 4), choose='engine');"
        "print('the end', file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stderr.endswith("the end\n")


def test_masks_of_networks_of_any_type_fit_each_other() -> None:
    model = network()
    mask = prune(model, 0.5)
    for kind in (torch.float16, torch.bfloat16, torch.float64):
        twin = network().to(kind)
        mask.apply(twin)
        assert mask.violations(twin) == {}
        assert Mask(dict(mask.weights)).violations(twin) == {}
