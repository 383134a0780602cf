"""Attention of one token at a time over kept keys and values, against float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.engine import Attention, available_instruction_sets
from gossamer.engine.decoding import Attended
from gossamer.engine.kept import kept_attention

pytestmark = pytest.mark.skipif(
    available_instruction_sets() == ("numpy",), reason="built without compiled kernels"
)


@settings(max_examples=30)
@given(
    sequences=st.integers(1, 3),
    key_heads=st.integers(1, 2),
    shared=st.integers(1, 2),
    width=st.sampled_from((1, 7, 16, 20, 64)),
    depth=st.sampled_from((1, 15, 64, 81)),
    tokens=st.sampled_from((1, 4, 7, 11)),
    biased=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_each_token_reads_those_before(
    sequences: int,
    key_heads: int,
    shared: int,
    width: int,
    depth: int,
    tokens: int,
    biased: bool,
    seed: int,
) -> None:
    random, heads = np.random.default_rng(seed), key_heads * shared
    bias = random.standard_normal((heads, tokens, tokens)).astype(np.float32) if biased else None
    layer = Attention(0, 1, 2, heads, key_heads, 0.3, causal=True, bias=bias)
    kept = kept_attention(Attended(layer, width, depth, 3), tokens, sequences)
    sizes = (tokens, sequences)
    query = random.standard_normal((*sizes, key_heads, shared, width)).astype(np.float32)
    key = random.standard_normal((*sizes, key_heads, width)).astype(np.float32)
    value = random.standard_normal((*sizes, key_heads, depth)).astype(np.float32)
    for place in range(tokens):
        found = kept.attend([place] * sequences, query[place], key[place], value[place])
        there = slice(place + 1)
        scores = 0.3 * np.einsum(
            "nkhw,tnkw->nkht", query[place].astype(float), key[there].astype(float)
        )
        if bias is not None:
            scores += bias[:, place, there].reshape(key_heads, shared, -1)
        powers = np.exp(scores - scores.max(-1, keepdims=True))
        shares = powers / powers.sum(-1, keepdims=True)
        expected = np.einsum("nkht,tnkd->nkhd", shares, value[there].astype(float))
        np.testing.assert_allclose(found.ravel(), expected.ravel(), rtol=1e-5, atol=2e-6)
