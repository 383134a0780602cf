"""Attention against PyTorch in float64, in every run there is."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from gossamer.core.errors import InputError
from gossamer.engine import (
    Attention,
    Doubles,
    Engine,
    Network,
    available_instruction_sets,
    check_network,
    run_portable_all,
)

COMPILED = tuple(name for name in available_instruction_sets() if name != "numpy")
Drawn = tuple[Network, tuple[Doubles, ...], Doubles]


@st.composite
def attentions(draw: st.DrawFn) -> Drawn:
    """Return a network of one attention, its inputs, and what PyTorch gives for them."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    key_heads, shared = draw(st.sampled_from(((1, 1), (2, 1), (1, 3), (2, 2))))
    heads = key_heads * shared
    width, depth = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    queries, keys = (draw(st.sampled_from((1, 3, 16, 17, 33, 64, 65, 140))) for _ in range(2))
    count, spread = draw(st.sampled_from((0, 1, 3))), draw(st.sampled_from((1e-3, 1.0, 300.0)))
    query, key = (
        spread * random.standard_normal((count, h, length, width))
        for h, length in ((heads, queries), (key_heads, keys))
    )
    value = 10 ** random.uniform(-4, 4, (count, key_heads, keys, depth))
    pairs = (draw(st.sampled_from((1, heads))), queries, keys)
    kept = (
        random.random(pairs) < draw(st.sampled_from((0.02, 0.7))) if draw(st.booleans()) else None
    )
    bias = random.standard_normal(pairs).astype("f4") if draw(st.booleans()) else None
    causal, scale = draw(st.booleans()), draw(st.sampled_from((1 / math.sqrt(width), 0.3)))
    arrays = tuple(_as_float32(one) for one in (query, key, value))
    layer = Attention(
        0, 1, 2, heads, key_heads, scale, causal, None if kept is None else kept.astype("f4"), bias
    )
    mask = np.zeros((heads, queries, keys)) + (0.0 if bias is None else bias.astype(float))
    inputs = tuple(_features_first(one) for one in arrays)
    if draw(st.booleans()):  # one that is computed, and differs from example to example
        size = (count, draw(st.sampled_from((1, heads))), draw(st.sampled_from((1, queries))), keys)
        added = _as_float32(random.standard_normal(size))
        added[random.random(size) < 0.4] = -np.inf
        mask = mask + added
        layer, inputs = replace(layer, mask=3), (*inputs, added)
    left_out = ~np.tri(queries, keys, dtype=bool) if causal else np.zeros((queries, keys), bool)
    left_out = left_out | (False if kept is None else ~kept)
    mask = np.where(left_out, -np.inf, mask)
    q, k, v = map(torch.from_numpy, arrays)
    expected = scaled_dot_product_attention(
        q, k, v, torch.from_numpy(mask), scale=scale, enable_gqa=shared > 1
    )
    shapes = tuple(one.shape[1:] for one in inputs)
    return Network(shapes, (layer,), len(inputs)), inputs, _features_first(expected.numpy())


def _as_float32(array: Doubles) -> Doubles:
    return array.astype(np.float32).astype(np.float64)


def _features_first(array: Doubles) -> Doubles:
    """Return [N, heads, positions, width] as [N, heads * width, 1, positions]."""
    count, heads, positions, width = array.shape
    return array.swapaxes(2, 3).reshape(count, heads * width, 1, positions)


@settings(max_examples=60)
@given(attentions())
def test_attention_is_pytorchs_in_every_run(drawn: Drawn) -> None:
    network, inputs, expected = drawn
    assert check_network(network)[-1] == expected.shape[1:]
    (found,) = run_portable_all(network, inputs, np.float64)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
    given = tuple(one.astype(np.float32) for one in inputs)
    reference = np.abs(expected).max(initial=0.0)
    # Scores of some thousands have half a thousandth between two float32 numbers.
    scores = max(np.abs(one).max(initial=0.0) for one in inputs[:2]) ** 2 * inputs[0].shape[1]
    tolerance = (1e-5 + 3e-7 * scores) * reference
    for name in available_instruction_sets():
        if name != "numpy":
            (result,) = Engine(network, name).run(given, threads=2)
            assert np.abs(result - expected).max(initial=0.0) <= tolerance


@pytest.mark.parametrize("name", COMPILED)
def test_a_long_sequence_is_exact_and_takes_little_memory(name: str) -> None:
    random = np.random.default_rng(0)
    inputs = random.standard_normal((1, 8, 1, 3000)).astype(np.float32)
    network = Network((8, 1, 3000), (Attention(0, 0, 0, 2, 2, 0.5, causal=True),), 1)
    by_head = torch.from_numpy(inputs.astype(float)).reshape(1, 2, 4, 3000).transpose(2, 3)
    expected = scaled_dot_product_attention(by_head, by_head, by_head, is_causal=True, scale=0.5)
    found = Engine(network, name)(inputs)
    error = np.abs(found - _features_first(expected.numpy())).max()
    assert error <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("computed", [False, True])
@pytest.mark.parametrize("name", available_instruction_sets())
def test_a_query_whose_keys_all_have_the_lowest_number_sees_them_alike(
    name: str, computed: bool
) -> None:
    random = np.random.default_rng(1)
    inputs = random.standard_normal((1, 4, 1, 5)).astype(np.float32)
    mask = np.zeros((1, 5, 5), np.float32)
    mask[:, 2] = np.finfo(np.float32).min
    mask[:, 3, 1:] = np.finfo(np.float32).min
    layer = Attention(0, 0, 0, 1, 1, 0.5)
    layer = replace(layer, mask=1) if computed else replace(layer, bias=mask)
    given = (inputs, mask[None])[: 2 if computed else 1]
    network = Network(tuple(one.shape[1:] for one in given), (layer,), len(given))
    each = torch.from_numpy(inputs[:, :, 0]).swapaxes(1, 2)[:, None]
    expected = scaled_dot_product_attention(each, each, each, torch.from_numpy(mask), scale=0.5)
    if name == "numpy":
        (found,) = run_portable_all(network, given, np.float32)
    else:
        (found,) = Engine(network, name).run(given, threads=1)
    np.testing.assert_allclose(found, _features_first(expected.numpy()), rtol=0, atol=1e-6)


@pytest.mark.parametrize("bits", [0x7FC00000, 0xFFC00000, 0x7FFFFFFF, 0x7F8001FF])
@pytest.mark.parametrize("name", available_instruction_sets())
def test_a_query_that_is_no_number_gives_none_and_leaves_others_alone(name: str, bits: int) -> None:
    random = np.random.default_rng(0)
    query, keys = random.standard_normal((2, 1, 4, 1, 20)).astype(np.float32)
    query.view(np.uint32)[0, 0, 0, 7] = bits  # a NaN, of the first of two heads
    network = Network(((4, 1, 20), (4, 1, 20)), (Attention(0, 1, 1, 2, 2, 0.5),), 2)
    found = Engine(network, name).run((query, keys))[0]
    expected = np.zeros((1, 4, 1, 20), bool)
    expected[0, :2, 0, 7] = True
    np.testing.assert_array_equal(np.isnan(found), expected)


@pytest.mark.parametrize(
    ("layer", "complaint"),
    [
        (Attention(0, 0, 0, 3, 3, 1.0), "heads is 3 and key_heads 3, expected that the one"),
        (Attention(0, 0, 0, 2, 4, 1.0), "heads is 2 and key_heads 4"),
        (Attention(0, 0, 0, 4, 2, 1.0), "key has shape [4, 1, 5], expected [2, 1, 5]"),
        (Attention(0, 0, 0, 2, 2, np.inf), "scale is inf"),
        (
            Attention(0, 0, 0, 2, 2, 1.0, kept=np.ones((1, 5, 4), np.float32)),
            "kept is float32 [1, 5, 4], expected float32 [1, 5, 5]",
        ),
        (Attention(0, 0, 0, 2, 2, 1.0, mask=0), "mask has shape [4, 1, 5], expected 1 or 2, 1"),
    ],
)
def test_an_attention_that_does_not_fit_is_refused(layer: Attention, complaint: str) -> None:
    with pytest.raises(InputError) as caught:
        check_network(Network((4, 1, 5), (layer,), 1))
    assert complaint in str(caught.value)
