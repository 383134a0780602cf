"""Causal networks computed token by token give what the whole sequence gives, or are refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gossamer
from gossamer.core.errors import InputError
from gossamer.engine import (
    Activation,
    Attention,
    ChannelNorm,
    Concatenate,
    Constant,
    Convolution,
    Embedding,
    Epilogue,
    Expand,
    LayerNorm,
    Matmul,
    Network,
    Operator,
    Permute,
    Pointwise,
    Recurrence,
    Reshape,
    Shape,
    Signature,
    Slice,
    Softmax,
    TensorSpec,
    available_instruction_sets,
    pack_weights,
    run_portable_all,
)
from gossamer.engine.fitting import fitted
from gossamer.engine.gsm import write_network
from gossamer.engine.lengths import at_lengths
from gossamer.engine.ops.binary import Binary
from gossamer.engine.ops.reduce import Reduce
from gossamer.runtime.decoder import Decoder
from gossamer.runtime.predictor import Predictor

MOST, WORDS, WIDTH, HEADS, SHARED = 24, 11, 8, 4, 2
Fitted = tuple[Network, Signature]


def matrix(rows: int, columns: int, seed: int = 0) -> Any:
    random = np.random.default_rng(seed + 31 * rows + columns)
    held = random.random((rows, columns)) < 0.6
    return pack_weights(random.standard_normal((rows, columns)) * held * 0.6, "csr")


def table(shape: Shape, length: int, axis: int) -> Any:
    """Return numbers of which shorter sequences have the beginning."""
    numbers = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    return np.ascontiguousarray(numbers.take(range(length), axis))


def language_model(length: int) -> Fitted:
    """Return two layers with position embeddings, turned keys, gates, and shared keys."""
    half = SHARED * WIDTH // HEADS // 2
    layers: list[Operator] = [
        Embedding(0, matrix(WORDS, WIDTH)),
        Constant(0, table((MOST, 1, WIDTH), length, 0), (length, 1, WIDTH)),
        Pointwise(1, Epilogue(residual=2)),
        Permute(3, (2, 1, 0)),
        ChannelNorm(4),
        Convolution(5, matrix(WIDTH, WIDTH, 1), (1, 1), bias=np.ones(WIDTH, np.float32)),
        Convolution(5, matrix(2 * half, WIDTH, 2), (1, 1)),
        Convolution(5, matrix(2 * half, WIDTH, 3), (1, 1)),
        Slice(7, 0, 0, half),
        Slice(7, 0, half, half),
        Concatenate((10, 9)),
        Constant(0, table((1, 1, MOST), length, 2), (1, 1, length)),
        Binary(11, 12, "multiply"),
        Binary(7, 13, "add"),
        Attention(6, 14, 8, HEADS, SHARED, 0.7, causal=True),
        Convolution(15, matrix(WIDTH, WIDTH, 4), (1, 1), epilogue=Epilogue(residual=4)),
        Convolution(16, matrix(WIDTH, WIDTH, 5), (1, 1),
                    epilogue=Epilogue(activation=Activation("silu"))),
        Binary(17, 16, "multiply"),
        Attention(18, 18, 18, 2, 2, 0.5, kept=np.tri(length, dtype=np.float32)[None],
                  bias=table((1, MOST, MOST), length, 1)[:, :, :length]),
        Convolution(19, matrix(WORDS, WIDTH, 6), (1, 1)),
        Permute(20, (2, 1, 0)),
        Slice(21, 0, length - 1, 1),
    ]  # fmt: skip
    signature = Signature(
        (TensorSpec("tokens", (length,), "int64"),),
        (TensorSpec("logits", (length, WORDS)), TensorSpec("last", (WORDS,))),
        "dict",
    )
    return Network((length,), tuple(layers), (21, 22)), signature


@pytest.fixture(scope="module")
def model() -> Fitted:
    found: dict[Shape, Fitted] = {(length,): language_model(length) for length in (2, 5, MOST)}
    return fitted(found, (1,))


SEQUENCE = np.random.default_rng(5).integers(0, WORDS, (1, MOST))


def whole(model: Fitted, length: int) -> list[Any]:
    network, signature = at_lengths(*model, (length,))
    found = run_portable_all(network, (SEQUENCE[:, :length].astype(float),), np.float64)
    return [one.reshape(1, *spec.shape) for one, spec in zip(found, signature.outputs, strict=True)]


@pytest.mark.parametrize("instruction_set", available_instruction_sets())
def test_every_prefix_is_that_of_the_whole_sequence(
    model: Fitted, instruction_set: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOSSAMER_INSTRUCTION_SET", instruction_set)
    decoder = Decoder(*model, max_length=20)
    for length in range(1, 21):
        found = decoder.step(SEQUENCE[:, length - 1 : length])
        logits, last = whole(model, length)
        assert (found["logits"].shape, found["last"].shape) == ((1, 1, WORDS), (1, WORDS))
        largest = np.abs(logits).max()
        assert np.abs(found["logits"][:, 0] - logits[:, -1]).max() <= 1e-5 * largest
        assert np.abs(found["last"] - last).max() <= 1e-5 * largest
        assert decoder.length == length


def test_tokens_may_come_in_any_portions_and_again_after_a_reset(model: Fitted) -> None:
    decoder = Decoder(*model)
    logits, last = whole(model, MOST)
    for portions in ((MOST,), (1, 7, 16), (5, 5, 5, 5, 4)):
        decoder.reset()
        ends = np.cumsum(portions)
        found = [
            decoder.step(SEQUENCE[0, end - count : end])
            for count, end in zip(portions, ends, strict=True)
        ]
        joined = np.concatenate([one["logits"] for one in found], 1)
        np.testing.assert_allclose(joined, logits, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found[-1]["last"], last, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("instruction_set", available_instruction_sets())
def test_sequences_side_by_side_are_each_what_they_are_alone(
    model: Fitted, instruction_set: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOSSAMER_INSTRUCTION_SET", instruction_set)
    tokens = np.random.default_rng(6).integers(0, WORDS, (3, 9))
    alone = Decoder(*model, max_length=9)
    together = Decoder(*model, max_length=9, batch=3)
    assert together.cache_bytes == 3 * alone.cache_bytes
    found = [together.step(tokens[:, :7]), together.step(tokens[:, 7:])]
    for number, sequence in enumerate(tokens):
        alone.reset()
        expected = alone.step(sequence)
        logits = np.concatenate([one["logits"][number] for one in found])
        np.testing.assert_allclose(logits, expected["logits"][0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found[1]["last"][number], expected["last"][0], 1e-4, 1e-5)
    with pytest.raises(InputError, match=r"shape \[9\], expected \[3, tokens\]"):
        together.step(tokens[0])
    for batch in (0, 1.0, True):
        with pytest.raises(InputError, match="batch is"):
            Decoder(*model, batch=batch)  # type: ignore[arg-type]


def test_the_memory_of_the_cache_is_what_is_said(model: Fitted) -> None:
    features = 2 * SHARED * (WIDTH // HEADS) + 2 * WIDTH  # keys and values of both attentions
    for most in (8, 20):
        assert Decoder(*model, max_length=most).cache_bytes == 4 * most * features


def test_a_loaded_file_decodes(model: Fitted, tmp_path: Path) -> None:
    network, signature = model
    write_network(tmp_path / "n.gsm", network, {}, "float32", signature)
    decoder = gossamer.load(tmp_path / "n.gsm").decoder(9)
    found = decoder.step(SEQUENCE[:, :9])["logits"]
    np.testing.assert_allclose(found, whole(model, 9)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("tokens", "complaint"),
    [
        (np.zeros((2, 3), int), "tokens: shape [2, 3], expected [1, tokens]"),
        (np.zeros((1, 0), int), "tokens: 0 given, expected 1 to 4"),
        (np.zeros((1, 5), int), "tokens: 5 given, expected 1 to 4, as 6 of 10 were given before"),
        (np.zeros((1, 1)), "tokens: of type float64, expected int64"),
        ([[1, 2, WORDS]], f"holds {WORDS}, expected numbers of rows from 0 to {WORDS - 1}"),
        ([[WORDS]], f"holds {WORDS}, expected numbers of rows from 0 to {WORDS - 1}"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(
    model: Fitted, tokens: Any, complaint: str
) -> None:
    decoder = Decoder(*model, max_length=10)
    decoder.step(SEQUENCE[:, :6])
    with pytest.raises(InputError) as caught:
        decoder.step(tokens)
    assert complaint in str(caught.value)
    assert decoder.length == 6
    found = decoder.step(SEQUENCE[:, 6:7])["last"]
    np.testing.assert_allclose(found, whole(model, 7)[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("most", [0, MOST + 1, 2.0, True])
def test_a_length_that_the_network_does_not_take_is_refused(model: Fitted, most: Any) -> None:
    with pytest.raises(InputError, match="max_length is"):
        Decoder(*model, max_length=most)


def of_layers(make: Callable[[int], tuple[Operator, ...]], output: Shape | None = None) -> Fitted:
    """Return a network of operators over [8, 1, tokens] behind a product."""

    def one(length: int) -> Fitted:
        first = Convolution(0, matrix(WIDTH, WIDTH), (1, 1))
        network = Network((WIDTH, 1, length), (first, *make(length)), 1 + len(make(length)))
        shape = (WIDTH, length) if output is None else output
        return network, Signature.of_shapes((WIDTH, length), shape)

    return fitted({(length,): one(length) for length in (2, 4, 8)}, (1,))


MIXING: dict[str, tuple[Callable[[int], tuple[Operator, ...]], Shape | None, str]] = {
    "all see all": (
        lambda _: (Attention(1, 1, 1, 2, 2, 1.0),), None,
        "layer 1 (Attention) lets tokens attend to later ones",
    ),
    "one later token": (
        lambda n: (Attention(1, 1, 1, 2, 2, 1.0, kept=np.tri(n, k=1, dtype="f4")[None]),), None,
        "layer 1 (Attention) lets tokens attend to later ones",
    ),
    "a convolution": (
        lambda _: (Convolution(1, matrix(WIDTH, 3 * WIDTH), (1, 3), padding=(0, 1)),), None,
        "layer 1 (Convolution) mixes tokens",
    ),
    "a mean": (lambda _: (Reduce(1, "mean", (2,)),), (WIDTH,), "layer 1 (Reduce) mixes tokens"),
    "a norm": (lambda _: (LayerNorm(1, 1),), None, "layer 1 (LayerNorm) mixes tokens"),
    "a softmax": (
        lambda _: (Permute(1, (2, 1, 0)), Softmax(2), Permute(3, (2, 1, 0))), None,
        "layer 2 (Softmax) mixes tokens",
    ),
    "the first token": (
        lambda _: (Slice(1, 2, 0, 1),), (WIDTH,), "layer 1 (Slice) takes some tokens only"
    ),
    "a class token": (
        lambda _: (Slice(1, 2, 0, 1), Concatenate((2, 1), 2), Slice(3, 2, 1, 1)), (WIDTH,),
        "joins tokens with something else",
    ),
    "scores": (
        lambda n: (Reshape(1, (WIDTH, n)), Matmul(2, 2, left_transposed=True),
                   Reduce(3, "maximum", (0,))),
        None, "layer 2 (Matmul) gives pairs of tokens",
    ),
    "a recurrence": (
        lambda _: (Recurrence(1, matrix(WIDTH, WIDTH), "tanh"),), None,
        "layer 1 (Recurrence) mixes tokens",
    ),
    "tokens in two places": (
        lambda n: (Permute(1, (2, 1, 0)), Reshape(2, (n, WIDTH, 1)), Reshape(1, (WIDTH, n, 1)),
                   Slice(4, 1, 0, 1), Expand(5, (WIDTH, n, 1))),
        None, "layer 4 (Slice) takes some tokens only",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MIXING)
def test_what_mixes_tokens_is_named(name: str) -> None:
    make, output, complaint = MIXING[name]
    with pytest.raises(InputError) as caught:
        Decoder(*of_layers(make, output))
    assert complaint in str(caught.value)


def test_tokens_of_numbers_along_the_last_axis_are_taken() -> None:
    causal = of_layers(lambda _: (Attention(1, 1, 1, 2, 2, 1.0, causal=True),))
    random = np.random.default_rng(0)
    sequence = random.standard_normal((1, WIDTH, 8)).astype(np.float32)
    decoder = Predictor(causal[0], {}, causal[1]).decoder()
    found = np.concatenate([decoder.step(sequence[..., at : at + 1]) for at in range(8)], 2)
    (expected,) = run_portable_all(causal[0], (sequence[:, :, None].astype(float),), np.float64)
    np.testing.assert_allclose(found, expected[:, :, 0], rtol=1e-4, atol=1e-5)


def test_a_network_of_one_length_or_more_inputs_is_refused(model: Fitted) -> None:
    network, signature = language_model(4)
    with pytest.raises(
        InputError, match="takes no inputs of one length that varies; compress it with"
    ):
        Decoder(network, signature)
    two = Network(((4,), (2,)), network.layers[:0], (0, 1))
    with pytest.raises(InputError, match="takes 2 inputs, expected its tokens alone"):
        Decoder(two, model[1])


@pytest.mark.parametrize("instruction_set", available_instruction_sets())
def test_padded_sequences_are_each_what_they_are_without_padding(
    model: Fitted, instruction_set: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOSSAMER_INSTRUCTION_SET", instruction_set)
    random = np.random.default_rng(7)
    prompts = random.integers(0, WORDS, (4, 6))
    mask = np.array(
        [[0, 0, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 0, 1, 1, 0, 1], [1, 1, 1, 1, 1, 1]]
    )
    prompts = np.where(mask, prompts, -100)  # no word, as labels are padded
    later = random.integers(0, WORDS, (4, 3))
    ended = np.array([[1, 1, 0], [1, 1, 1], [0, 0, 0], [1, 1, 1]], bool)
    together, alone = Decoder(*model, max_length=9, batch=4), Decoder(*model, max_length=9)
    found = [together.step(prompts, mask), together.step(later, ended)]
    assert together.lengths == [6, 6, 4, 9]
    for number in range(4):
        alone.reset()
        for part, tokens, some in zip(found, (prompts, later), (mask, ended), strict=True):
            there = np.flatnonzero(some[number])
            assert not part["logits"][number][some[number] == 0].any()
            if not there.size:
                assert not part["last"][number].any()
                continue
            expected = alone.step(tokens[number, there])
            logits = part["logits"][number, there]
            np.testing.assert_allclose(logits, expected["logits"][0], rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(part["last"][number], expected["last"][0], 1e-4, 1e-5)
    together.step(later[:, :1], [[1], [1], [1], [0]])  # what is full waits
    with pytest.raises(InputError, match="tokens: 1 given, expected 1 to 0, as 9 of 9 were given"):
        together.step(later[:, :1])
    for wrong in ([[1]] * 3, [[2]] * 4, [1] * 4):
        with pytest.raises(InputError, match=r"mask: .*, expected 0 and 1, or truth values, \[4,"):
            together.step(later[:, :1], wrong)
