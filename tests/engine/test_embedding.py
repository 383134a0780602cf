"""Tokens looked up in tables: as PyTorch does it, in every run, and never beyond a table."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gossamer
from gossamer.core.errors import InputError
from gossamer.engine import (
    Concatenate,
    Embedding,
    Engine,
    Epilogue,
    Layout,
    Linear,
    Network,
    Pointwise,
    Reshape,
    available_instruction_sets,
    check_network,
    pack_weights,
    run_portable,
)

TABLE = np.random.default_rng(0).standard_normal((9, 5)) * (np.arange(45).reshape(9, 5) % 3 > 0)


def looking_up(layout: Layout, *shape: int) -> Network:
    return Network(shape, (Embedding(0, pack_weights(TABLE, layout)),), 1)


@settings(max_examples=25)
@given(
    st.sampled_from(("dense", "csr", "block")),
    st.sampled_from(((1,), (4,), (2, 1, 3), (3, 2, 2))),
    st.integers(0, 40),
    st.integers(0, 2**32 - 1),
)
def test_rows_are_those_of_pytorch(
    layout: Layout, shape: tuple[int, ...], examples: int, seed: int
) -> None:
    tokens = np.random.default_rng(seed).integers(0, 9, (examples, *shape))
    network = looking_up(layout, *shape)
    table = torch.from_numpy(TABLE.astype(np.float32))
    expected = nn.functional.embedding(torch.from_numpy(tokens), table).numpy()
    expected = expected.reshape(examples, np.prod(shape), 1, 5)
    np.testing.assert_array_equal(run_portable(network, tokens.astype(np.float64)), expected)
    for name in available_instruction_sets():
        for dtype in (np.int32, np.int64, np.uint8, np.float32):
            np.testing.assert_array_equal(Engine(network, name)(tokens.astype(dtype)), expected)


@pytest.mark.parametrize("token", [9, -1, 2**40, -(2**40), 0.5, np.nan])
def test_what_counts_no_row_is_refused(token: float) -> None:
    tokens = np.array([[0, 1], [2, token]])
    tokens = tokens.astype(np.int64 if float(token).is_integer() else np.float32)
    for name in available_instruction_sets():
        for layout in ("dense", "csr", "block"):
            with pytest.raises(InputError, match="expected numbers of rows from 0 to 8"):
                Engine(looking_up(layout, 2), name)(tokens)


def test_what_is_computed_and_counts_no_row_is_refused_as_well() -> None:
    doubled = (Pointwise(0, Epilogue(residual=0)), Reshape(1, (1, 1, 2)))
    network = Network((2,), (*doubled, Embedding(2, pack_weights(TABLE, "csr"))), 3)
    for name in available_instruction_sets():
        engine = Engine(network, name)
        expected = TABLE.astype(np.float32)[[[2, 8]]][:, :, None]
        np.testing.assert_array_equal(engine(np.array([[1, 4]])), expected)
        with pytest.raises(InputError, match="a value holds 10, expected numbers of rows"):
            engine(np.array([[1, 5]]))


def test_a_table_may_not_have_more_rows_than_float32_tells_apart() -> None:
    table = pack_weights(np.zeros((1, 1)), "csr")
    huge = type(table)("csr", 2**24 + 1, 1, table.values, np.zeros(2**24 + 2, np.int64),
                       table.indices)  # fmt: skip
    with pytest.raises(InputError, match="expected at most 16777216"):
        check_network(Network((1,), (Embedding(0, huge),), 1))


class Tagger(nn.Module):
    """Tokens, their kinds and their places, as in BERT, joined and projected."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.words = nn.Embedding(30, 6, padding_idx=0)
        self.kinds = nn.Embedding(2, 6)
        self.places = nn.Embedding(12, 6)
        self.first = nn.Linear(6 * length, 8)
        self.last = nn.Linear(8, 4)

    def forward(
        self, input_ids: torch.Tensor, token_type_ids: torch.Tensor, kept: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        places = torch.arange(input_ids.shape[1])
        found = self.words(input_ids) + self.kinds(token_type_ids) + self.places(places)
        hidden = torch.relu(self.first(found.flatten(1)))
        return {"logits": self.last(hidden) + kept.to(torch.float32), "hidden": hidden}


@pytest.mark.parametrize("whole", [torch.int32, torch.int64])
def test_token_networks_are_whole_in_the_engine_and_in_files(
    whole: torch.dtype, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = Tagger(7).eval()
    gossamer.prune(model, 0.5)
    example = {
        "input_ids": torch.randint(0, 30, (5, 7), dtype=whole),
        "token_type_ids": torch.randint(0, 2, (5, 7), dtype=whole),
        "kept": torch.rand(5, 4) > 0.5,
    }
    small = gossamer.compress(model, example, choose="engine")
    assert small.remaining == ()
    expected = {name: one.detach() for name, one in model(**example).items()}
    for name, found in small(**example).items():
        torch.testing.assert_close(found, expected[name], rtol=1e-5, atol=1e-5)
    small.save(tmp_path / "n.gsm")
    predictor = gossamer.load(tmp_path / "n.gsm")
    arrays: dict[str, Any] = {name: one.numpy() for name, one in example.items()}
    for found in (predictor(**arrays), predictor(*arrays.values()), small(*arrays.values())):
        assert list(found) == ["logits", "hidden"]
        for name, one in found.items():
            np.testing.assert_allclose(one, expected[name], rtol=1e-5, atol=1e-5)
    for network in (small, predictor):
        with pytest.raises(InputError, match=r"input 0 holds \d+, expected numbers of rows from 0"):
            network(**{**arrays, "input_ids": arrays["input_ids"] + 30})
        with pytest.raises(InputError, match="input_ids: of type float32, expected whole numbers"):
            network(**{**arrays, "input_ids": arrays["input_ids"].astype(np.float32)})


def test_an_embedding_has_rows_of_any_place() -> None:
    network = Network(
        (3,),
        (
            Embedding(0, pack_weights(TABLE, "block")),
            Reshape(1, (15,)),
            Linear(2, pack_weights(np.eye(15), "csr")),
            Concatenate((3, 0)),
        ),
        4,
    )
    tokens = np.random.default_rng(1).integers(0, 9, (33, 3)).astype(np.float64)
    exact = run_portable(network, tokens, np.float64)
    for name in available_instruction_sets():
        np.testing.assert_allclose(
            Engine(network, name)(tokens.astype(np.int64), 2), exact, rtol=1e-6
        )
