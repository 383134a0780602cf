"""Weights from what trainings write, and one sentence for everything else."""

import argparse
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune
from torch.optim.swa_utils import AveragedModel

from gossamer.compression.checkpoints import load_weights
from gossamer.core.errors import InputError

State = Mapping[str, Any]


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(6, 4)
        self.head = nn.Linear(4, 6, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.head(self.embedding(inputs))
        return found


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))
    with torch.no_grad():
        made(torch.randn(9, 4))  # moves the statistics
    return made


def prefixed(state: State, prefix: str) -> dict[str, Any]:
    return {prefix + name: value for name, value in state.items()}


def optimizer_state(made: nn.Module) -> dict[str, Any]:
    optimizer = torch.optim.Adam(made.parameters())
    sum(p.square().sum() for p in made.parameters()).backward()  # type: ignore[union-attr]
    optimizer.step()
    return optimizer.state_dict()


def averaged(made: nn.Module) -> State:
    return AveragedModel(made).state_dict()


def without_counts(state: State) -> State:
    return {name: value for name, value in state.items() if "num_batches" not in name}


def compiled_parts(state: State) -> State:
    return {name.replace("0.", "0._orig_mod.", 1): value for name, value in state.items()}


WRITTEN: dict[str, Callable[[nn.Module], object]] = {
    "alone": lambda m: m.state_dict(),
    "half precision": lambda m: m.half().state_dict(),
    "data parallel": lambda m: prefixed(m.state_dict(), "module."),
    "compiled": lambda m: torch.compile(m).state_dict(),  # type: ignore[attr-defined]
    "compiled within": lambda m: compiled_parts(m.state_dict()),
    "compiled and parallel": lambda m: prefixed(m.state_dict(), "_orig_mod.module."),
    "in a dict": lambda m: {"epoch": 3, "state_dict": m.state_dict()},
    "beside an optimizer": lambda m: {
        "model": {k: v.clone() for k, v in m.state_dict().items()},
        "loss": torch.tensor(0.5),
    },
    "a lightning module": lambda m: {
        "state_dict": {**prefixed(m.state_dict(), "net."), "criterion.weight": torch.ones(3)},
        "global_step": 10,
    },
    "two dicts deep": lambda m: {"ema": {"model": prefixed(m.state_dict(), "module.")}},
    "averaged": averaged,
    "any other name": lambda m: {"weights of the best epoch": m.state_dict()},
    "the same twice": lambda m: {"last": m.state_dict(), "best": m.state_dict()},
    "before counts": lambda m: without_counts(m.state_dict()),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch about parts of itself
@pytest.mark.parametrize("case", WRITTEN)
@pytest.mark.parametrize("legacy", [False, True])
def test_weights_are_found_in_what_trainings_write(case: str, legacy: bool, tmp_path: Path) -> None:
    path, given = tmp_path / "ck.pt", network(1)
    torch.save(WRITTEN[case](given), path, _use_new_zipfile_serialization=not legacy)
    found = network(2)
    load_weights(found, path)
    for name, value in given.state_dict().items():
        if "num_batches" not in name:
            torch.testing.assert_close(found.state_dict()[name], value.float(), rtol=0, atol=0)


def test_an_optimizers_tensors_are_not_taken_for_weights(tmp_path: Path) -> None:
    given = network(1)
    state = optimizer_state(given)
    torch.save({"optimizer": state, "model": given.state_dict()}, tmp_path / "ck.pt")
    found = network(2)
    load_weights(found, tmp_path / "ck.pt")
    assert torch.equal(found[0].weight, given[0].weight)  # type: ignore[arg-type]


def test_masks_of_torchs_pruning_are_multiplied_in(tmp_path: Path) -> None:
    given = network(1)
    torch_prune.l1_unstructured(given[0], "weight", 0.5)  # type: ignore[no-untyped-call]
    torch.save(prefixed(given.state_dict(), "module."), tmp_path / "ck.pt")
    found = network(2)
    load_weights(found, tmp_path / "ck.pt")
    assert torch.count_nonzero(found.get_parameter("0.weight")) == 12  # of 24
    assert torch.equal(found[0].weight, given[0].weight)  # type: ignore[arg-type]


@pytest.mark.parametrize("prefix", ["", "module."])
def test_safetensors_keep_one_of_tied_weights(prefix: str, tmp_path: Path) -> None:
    given, found = Tied(), Tied()
    save_model(given, str(tmp_path / "one.safetensors"))
    save_file({f"{prefix}head.weight": given.head.weight.detach()}, tmp_path / "two.safetensors")
    for name in ("one", "two"):
        found = Tied()
        load_weights(found, tmp_path / f"{name}.safetensors")
        assert torch.equal(found.embedding.weight, given.embedding.weight)
        assert found.head.weight is found.embedding.weight


def test_which_of_several_is_not_guessed_and_the_advice_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one, other = network(1).state_dict(), network(2).state_dict()
    for content in (
        {"model": one, "ema": other},
        {**prefixed(one, "student."), **prefixed(other, "teacher.")},
        {**one, **prefixed(other, "ema.")},
        {"state_dict": {**prefixed(one, "net."), **prefixed(other, "ema.module.")}},
    ):
        torch.save(content, "ck.pt")
        with pytest.raises(InputError, match="holds several state_dicts that fit") as caught:
            load_weights(network(3), Path("ck.pt"))
        exec(str(caught.value).partition("such as by ")[2].rstrip("."), {"torch": torch})
        found = network(3)
        load_weights(found, Path("weights.pt"))
        weights = (one["0.weight"], other["0.weight"])
        assert sum(torch.equal(found[0].weight, weight) for weight in weights) == 1  # type: ignore[arg-type]


def test_what_differs_is_listed(tmp_path: Path) -> None:
    state = dict(network(1).state_dict())
    state["extra.weight"] = torch.ones(2)
    del state["2.bias"]
    state["0.weight"] = torch.ones(5, 4)
    torch.save({"model": prefixed(state, "module.")}, tmp_path / "ck.pt")
    with pytest.raises(InputError) as caught:
        load_weights(network(2), tmp_path / "ck.pt")
    text = str(caught.value)
    assert "0.weight is [5, 4] in the file and [6, 4] in the network" in text
    assert "2.bias is missing" in text
    assert "extra.weight is in the file alone" in text
    torch.save({f"layer{i}.weight": torch.ones(2) for i in range(40)}, tmp_path / "ck.pt")
    with pytest.raises(InputError, match=r"0.weight is missing.*, and \d+ more; the state_dict"):
        load_weights(network(2), tmp_path / "ck.pt")


def truncated(path: Path, legacy: bool = False, keep: float = 0.6) -> None:
    torch.save(network().state_dict(), path, _use_new_zipfile_serialization=not legacy)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])


def safetensors_cut(path: Path) -> None:
    save_file(network().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-8])


def scripted(path: Path) -> None:
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)


NO_WEIGHTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a whole model": (lambda p: torch.save(network(), p), "holds Python objects beside tensors"),
    "a whole model's remedy": (
        lambda p: torch.save({"model": network()}, p),
        "torch.save(model.state_dict(), 'weights.pt')",
    ),
    "options of a script": (
        lambda p: torch.save({"model": network().state_dict(), "a": argparse.Namespace()}, p),
        "holds the options of a script beside tensors (argparse.Namespace)",
    ),
    "a scripted model": (scripted, "is a TorchScript archive"),
    "cut": (truncated, "is damaged, not whole"),
    "cut, old format": (lambda p: truncated(p, legacy=True), "is damaged, not whole"),
    "cut at the end": (lambda p: truncated(p, legacy=True, keep=0.99), "is damaged, not whole"),
    "cut safetensors": (safetensors_cut, "cannot be read as weights"),
    "empty": (lambda p: p.touch(), "is damaged, not whole"),
    "text": (lambda p: p.write_text("weights"), "is damaged, not whole"),
    "nothing": (lambda _: None, "no such file"),
    "a folder": (lambda p: p.mkdir(), "is a directory"),
    "a tensor": (lambda p: torch.save(torch.ones(3), p), "holds no tensors by name"),
    "numbers": (lambda p: torch.save({"epoch": 3}, p), "holds no tensors by name"),
    "a list": (lambda p: torch.save([network().state_dict()], p), "holds no tensors by name"),
    "an array": (lambda p: p.write_bytes(b"\x93NUMPY\x01"), "is an array of NumPy, not weights"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("case", NO_WEIGHTS)
def test_files_without_weights_are_refused_in_one_sentence(case: str, tmp_path: Path) -> None:
    write, complaint = NO_WEIGHTS[case]
    write(tmp_path / "ck.pt")
    with pytest.raises(InputError) as caught:
        load_weights(network(), tmp_path / "ck.pt")
    text = str(caught.value)
    assert text.startswith(f"{tmp_path / 'ck.pt'}: ")
    assert complaint in text
    assert "\n" not in text


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_is_cut_or_changed_anywhere_is_read_or_refused(
    zipped: bool, tmp_path: Path
) -> None:
    path = tmp_path / "ck.pt"
    weights = {"weight": torch.randn(3, 2), "bias": torch.randn(3)}
    torch.save(weights, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    step = 7 if zipped else 1
    changed = [
        whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :]
        for at in range(0, len(whole), step)
    ]
    said = []
    for damaged in (*(whole[:size] for size in range(0, len(whole), step)), *changed):
        path.write_bytes(damaged)
        try:
            load_weights(nn.Linear(2, 3), path)
        except InputError as error:
            said.append(str(error))
    assert all(text.startswith(f"{path}: ") for text in said)
    assert len(said) >= len(whole) // step  # of the cut ones, at least


def test_a_file_that_would_run_code_does_not(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"model": Harmful()}, tmp_path / "ck.pt")
    with pytest.raises(InputError, match="holds Python objects"):
        load_weights(network(), tmp_path / "ck.pt")
    assert not (tmp_path / "ran").exists()


def test_numbers_of_numpy_beside_the_weights_do_no_harm(tmp_path: Path) -> None:
    given, found = network(1), network(2)
    beside = {"best": np.float64(3.0), "epoch": np.int64(2), "done": np.bool_(True)}
    torch.save({"model": given.state_dict(), **beside}, tmp_path / "ck.pt")
    load_weights(found, tmp_path / "ck.pt")
    assert torch.equal(found.get_parameter("0.weight"), given.get_parameter("0.weight"))


def test_the_advice_for_options_of_a_script_works_for_who_holds_the_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given, found = network(1), network(2)
    torch.save({"model": given.state_dict(), "args": argparse.Namespace(lr=1)}, "ck.pt")
    with pytest.raises(InputError) as caught:
        load_weights(found, Path("ck.pt"))
    allowing, reading = re.findall(
        r"torch\.\S+?\(.*?\](?=\))\)|torch\.load\(.*?\)", str(caught.value)
    )
    scope = {"torch": torch, "argparse": argparse}
    exec(f"with {allowing}:\n    torch.save({reading}['model'], 'weights.pt')", scope)
    load_weights(found, Path("weights.pt"))
    assert torch.equal(found.get_parameter("0.weight"), given.get_parameter("0.weight"))


def test_only_a_class_that_may_be_a_models_is_called_one(tmp_path: Path) -> None:
    path = tmp_path / "ck.pt"
    for beside, whole in ((nn.ReLU(), True), (network, True), (Decimal(1), False)):
        torch.save({"model": network().state_dict(), "beside": beside}, path)
        with pytest.raises(InputError, match="weights_only=False") as caught:
            load_weights(network(), path)
        assert ("as a whole model does" in str(caught.value)) == whole


def test_counts_may_be_averaged_but_buffers_of_whole_numbers_not(tmp_path: Path) -> None:
    state = network(1).state_dict()
    state["1.num_batches_tracked"] = torch.tensor(1.5)
    torch.save(state, tmp_path / "ck.pt")
    load_weights(network(2), tmp_path / "ck.pt")
    indexed = nn.Linear(2, 2)
    indexed.register_buffer("order", torch.tensor([1, 0]))
    state = {**indexed.state_dict(), "order": torch.tensor([1.0, 0.0])}
    torch.save(state, tmp_path / "ck.pt")
    load_weights(indexed, tmp_path / "ck.pt")
    torch.save({**state, "order": torch.tensor([0.5, 0.0])}, tmp_path / "ck.pt")
    with pytest.raises(InputError, match=r"fractions or complex numbers .*\(order\)"):
        load_weights(indexed, tmp_path / "ck.pt")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            lambda v: v.to(torch.int8),
            r"whole numbers for weights .*\(2.weight; 2.weight is .*int8\)",
        ),
        (lambda v: v > 0, r"whole numbers for weights .*2.weight is torch.bool"),
        (lambda v: v.to(torch.complex64), r"complex numbers where the network has none"),
        (lambda v: v * torch.nan, r"holds NaN or infinite numbers.*\(2.weight\)"),
        (lambda v: v / 0, r"holds NaN or infinite numbers.*\(2.weight\)"),
        (lambda v: v.double() * 1e300, r"beyond the range of the network's type \(2.weight\)"),
    ],
)
def test_numbers_that_the_network_would_hold_as_others_are_refused(
    change: Callable[[Tensor], Tensor], complaint: str, tmp_path: Path
) -> None:
    state, found = network(1).state_dict(), network(2)
    before = found.get_parameter("0.weight").clone()
    torch.save({**state, "2.weight": change(state["2.weight"])}, tmp_path / "ck.pt")
    with pytest.raises(InputError, match=complaint):
        load_weights(found, tmp_path / "ck.pt")
    assert torch.equal(found.get_parameter("0.weight"), before)
