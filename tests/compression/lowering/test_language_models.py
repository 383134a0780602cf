"""Language and vision models as they are written today, whole in the engine."""

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import gossamer
from gossamer.compression.lowering.parts import divide
from gossamer.compression.lowering.rewriting import to_lower
from gossamer.compression.lowering.tracing import constants, trace
from gossamer.engine import Attention, Engine, Expand, Network, Take, run_portable_all
from gossamer.graph.arguments import Arguments


class RootMeanSquare(nn.Module):
    """As LlamaRMSNorm writes it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width) + 0.5)

    def forward(self, inputs: Tensor) -> Tensor:
        variance = inputs.to(torch.float32).pow(2).mean(-1, keepdim=True)
        return self.weight * (inputs * torch.rsqrt(variance + 1e-6))


def rotated(inputs: Tensor, *, interleaved: bool) -> Tensor:
    """Return queries or keys turned by their position (J. Su et al., RoFormer, 2021)."""
    width, length = inputs.shape[-1], inputs.shape[-2]
    speeds = 1e4 ** (-torch.arange(0, width, 2) / width)
    angles = torch.outer(torch.arange(length).float(), speeds).to(inputs.dtype)
    cos, sin = angles.cos(), angles.sin()
    if interleaved:
        first, second = inputs[..., ::2], inputs[..., 1::2]
        return torch.stack((first * cos - second * sin, first * sin + second * cos), -1).flatten(-2)
    first, second = inputs.chunk(2, -1)
    turned = torch.cat((-second, first), -1)
    return inputs * torch.cat((cos, cos), -1) + turned * torch.cat((sin, sin), -1)


class Llama(nn.Module):
    """One layer of four heads, which share two of keys and values."""

    def __init__(self, repeated: str, *, interleaved: bool) -> None:
        super().__init__()
        self.repeated, self.interleaved = repeated, interleaved
        self.words, self.norms = (
            nn.Embedding(30, 16),
            nn.ModuleList(RootMeanSquare(16) for _ in range(3)),
        )
        self.query, self.out = (nn.Linear(16, 16, bias=False) for _ in range(2))
        self.key, self.value = (nn.Linear(16, 8, bias=False) for _ in range(2))
        self.gate, self.up = (nn.Linear(16, 24, bias=False) for _ in range(2))
        self.down, self.head = nn.Linear(24, 16, bias=False), nn.Linear(16, 30, bias=False)

    def attend(self, inputs: Tensor) -> Tensor:
        batch, length, _ = inputs.shape
        query, key, value = (
            part(inputs).view(batch, length, -1, 4).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        query, key = (rotated(one, interleaved=self.interleaved) for one in (query, key))
        if self.repeated == "each":
            key, value = (one.repeat_interleave(2, 1) for one in (key, value))
        if self.repeated == "expanded":
            key, value = (
                one[:, :, None].expand(batch, 2, 2, length, 4).reshape(batch, 4, length, 4)
                for one in (key, value)
            )
        if self.repeated == "not":
            found = functional.scaled_dot_product_attention(
                query, key, value, is_causal=True, enable_gqa=True
            )
        else:
            places = torch.arange(length)
            later = places > places[:, None]
            scores = (query @ key.transpose(2, 3) / math.sqrt(4)).masked_fill(later, -torch.inf)
            found = scores.softmax(-1) @ value
        return self.out(found.transpose(1, 2).reshape(batch, length, 16))  # type: ignore[no-any-return]

    def forward(self, tokens: Tensor) -> Tensor:
        found = self.words(tokens)
        found = found + self.attend(self.norms[0](found))
        inner = self.norms[1](found)
        found = found + self.down(functional.silu(self.gate(inner)) * self.up(inner))
        return self.head(self.norms[2](found))  # type: ignore[no-any-return]


class Windows(nn.Module):
    """Attention within shifted windows of an image (Z. Liu et al., Swin Transformer, 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm, self.head = nn.Conv2d(3, 8, 2, 2), nn.LayerNorm(8), nn.Linear(8, 3)
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.bias = nn.Parameter(torch.randn(1, 2, 16, 16))
        self.mask = nn.Buffer(torch.where(torch.rand(4, 16, 16) < 0.3, -100.0, 0.0))

    def forward(self, images: Tensor) -> Tensor:
        found = self.patches(images).permute(0, 2, 3, 1)
        batch = found.shape[0]
        parted = torch.roll(self.norm(found), (-2, -2), (1, 2)).reshape(batch, 2, 4, 2, 4, 8)
        windows = parted.permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, 8)
        parts = self.qkv(windows).reshape(-1, 16, 3, 2, 4).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        scores = query * 0.5 @ key.transpose(2, 3) + self.bias
        scores = scores.view(batch, 4, 2, 16, 16) + self.mask[:, None]
        shares = scores.view(-1, 2, 16, 16).softmax(-1)
        windows = self.out((shares @ value).transpose(1, 2).reshape(-1, 16, 8))
        parted = windows.reshape(batch, 2, 2, 4, 4, 8).permute(0, 1, 3, 2, 4, 5)
        found = found + torch.roll(parted.reshape(batch, 8, 8, 8), (2, 2), (1, 2))
        return self.head(found.mean((1, 2)))  # type: ignore[no-any-return]


class Translator(nn.Module):
    """An encoder whose padding is seen from the tokens, and a causal decoder that reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(30, 16, padding_idx=0), nn.Linear(16, 30)
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(16, 2, 24, batch_first=True), 1, enable_nested_tensor=False
        )
        self.decoder = nn.TransformerDecoder(
            nn.TransformerDecoderLayer(16, 2, 24, batch_first=True, norm_first=True), 1
        )

    def forward(self, tokens: Tensor, written: Tensor) -> Tensor:
        padding = tokens == 0
        memory = self.encoder(self.words(tokens), src_key_padding_mask=padding)
        places = torch.arange(written.shape[1])
        later = places > places[:, None]
        found = self.decoder(
            self.words(written), memory, tgt_mask=later, memory_key_padding_mask=padding
        )
        return self.head(found)  # type: ignore[no-any-return]


class Scored(nn.Module):
    """Attention with a computed bias that is added to the scores, of the queries' own making."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.bias = nn.Linear(6, 6), nn.Linear(6, 5)

    def forward(self, inputs: Tensor) -> Tensor:
        found = self.first(inputs)
        scores = found @ inputs.transpose(1, 2) / 3 + self.bias(inputs)
        return scores.softmax(2) @ inputs  # type: ignore[no-any-return]


def whole(model: nn.Module, given: Any) -> tuple[Network, tuple[Any, ...]]:
    example = Arguments.of(model, given)
    traced = to_lower(model, example)
    division = divide(traced.graph)
    assert not division.rest
    part = division.whole(traced.graph)
    assert part is not None
    inputs = (one.numpy() for one in example.tensors)
    return part.network, tuple(
        one.reshape(-1, *shape) for one, shape in zip(inputs, part.network.inputs, strict=True)
    )


TOKENS = torch.tensor([[3, 4, 5, 6, 7, 8, 2], [9, 4, 0, 0, 0, 0, 0], [1, 1, 2, 9, 29, 0, 0]])
MODELS: dict[str, tuple[nn.Module, Any]] = {
    "keys repeated": (Llama("each", interleaved=True), TOKENS),
    "keys expanded": (Llama("expanded", interleaved=False), TOKENS),
    "keys grouped": (Llama("not", interleaved=False), TOKENS),
    "windows": (Windows(), torch.randn(3, 3, 16, 16)),
    "translator": (Translator(), (TOKENS, TOKENS[:, :5])),
    "scored": (Scored(), torch.randn(3, 5, 6)),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_whole_and_exact(name: str) -> None:
    torch.manual_seed(0)
    model, given = MODELS[name]
    for parameter in model.eval().parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.4)
    network, inputs = whole(model, given)
    args = given if isinstance(given, tuple) else (given,)
    exact_args = [one.double() if one.is_floating_point() else one for one in args]
    exact = copy.deepcopy(model).double()(*exact_args).detach().numpy()
    engine = Engine(network)
    alone = [engine.run([one[at : at + 1] for one in inputs])[0] for at in range(3)]
    for found in (
        engine.run(inputs)[0],
        np.concatenate(alone),
        run_portable_all(network, inputs)[0],
    ):
        assert np.abs(found.reshape(exact.shape) - exact).max() <= 1e-5 * np.abs(exact).max()
    attentions = [layer for layer in network.layers if isinstance(layer, Attention)]
    assert attentions
    if isinstance(model, Llama):  # keys stand where they are, and the mask is no array
        assert not any(isinstance(layer, Take | Expand) for layer in network.layers)
        (layer,) = attentions
        assert (layer.heads, layer.key_heads, layer.causal, layer.kept) == (4, 2, True, None)
    if name == "scored":
        assert attentions[0].mask is not None


class PaddedKeys(nn.Module):
    """Attention of which all keys of an example may be padding."""

    def __init__(self, number: float | None) -> None:
        super().__init__()
        self.first, self.number = nn.Linear(6, 6), number

    def forward(self, inputs: Tensor, kept: Tensor) -> Tensor:
        found = self.first(inputs)
        if self.number is None:
            mask = kept[:, None, None]
            heads = found[:, None]
            return functional.scaled_dot_product_attention(heads, heads, heads, mask)[:, 0]
        scores = (found @ found.transpose(1, 2)).masked_fill(~kept[:, None], self.number)
        return scores.softmax(-1) @ found  # type: ignore[no-any-return]


@pytest.mark.parametrize("number", [None, -torch.inf, -1e9, torch.finfo(torch.float32).min])
def test_a_row_that_is_wholly_masked_is_what_pytorch_makes_of_it(number: float | None) -> None:
    torch.manual_seed(0)
    model = PaddedKeys(number).eval()
    kept = torch.tensor([[1, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]]).bool()
    given = (torch.randn(3, 4, 6), kept)
    network, inputs = whole(model, given)
    expected = model(*given).detach().numpy()
    assert np.isnan(expected).any() == (number == -torch.inf)
    for found in (Engine(network).run(inputs)[0], run_portable_all(network, inputs)[0]):
        np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-5, atol=1e-6)


def test_a_llama_runs_from_a_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Llama("expanded", interleaved=False).eval()
    small = gossamer.compress(model, TOKENS, choose="engine")
    small.save(tmp_path / "n.gsm")
    loaded = gossamer.load(tmp_path / "n.gsm")
    expected = model(TOKENS).detach().numpy()
    for found in (small(TOKENS).numpy(), loaded(TOKENS.numpy())):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


class Numbered(nn.Module):
    """What depends on the size of the batch alone, the same for each example and not."""

    def __init__(self, *, by_example: bool) -> None:
        super().__init__()
        self.by_example, self.first = by_example, nn.Linear(4, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        batch = inputs.shape[0]
        numbers = torch.arange(4.0).expand(batch, 4).cumsum(-1)
        if self.by_example:
            numbers = numbers + torch.ones(batch).cumsum(0)[:, None]
        return self.first(inputs) + numbers  # type: ignore[no-any-return]


@pytest.mark.parametrize("by_example", [False, True])
def test_only_what_is_the_same_for_each_example_is_constant(by_example: bool) -> None:
    model, example = Numbered(by_example=by_example).eval(), torch.randn(3, 4)
    traced = trace(model, example)
    shapes = [tuple(one.shape) for one in constants(traced.graph).values()]
    assert ((1, 4) in shapes[2:]) or by_example
    small = gossamer.compress(model, example, choose="engine")
    assert bool(small.remaining) == by_example
    for batch in (1, 5):
        given = torch.randn(batch, 4)
        torch.testing.assert_close(small(given), model(given).detach())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Llama", "GPT2LMHead", "Bert", "Whisper", "Swin"])
def test_models_of_transformers_are_whole(name: str) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra zoo")
    torch.manual_seed(0)
    small = {"vocab_size": 50, "use_cache": False, "bos_token_id": 1, "eos_token_id": 2}
    wide = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    mask = {"input_ids": TOKENS, "attention_mask": (TOKENS > 0).long()}
    model, given = {
        "Llama": lambda: (
            transformers.LlamaForCausalLM(transformers.LlamaConfig(
                **small, **wide, intermediate_size=48, num_key_value_heads=2)), mask),
        "GPT2LMHead": lambda: (
            transformers.GPT2LMHeadModel(transformers.GPT2Config(
                **small, n_positions=32, n_embd=32, n_layer=2, n_head=4)), mask),
        "Bert": lambda: (
            transformers.BertModel(transformers.BertConfig(
                vocab_size=50, **wide, intermediate_size=48)), mask),
        "Whisper": lambda: (
            transformers.WhisperModel(transformers.WhisperConfig(
                **small, pad_token_id=0, num_mel_bins=8, d_model=32, encoder_layers=2,
                decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
                encoder_ffn_dim=48, decoder_ffn_dim=48, max_source_positions=12,
                max_target_positions=16, decoder_start_token_id=1)),
            {"input_features": torch.randn(3, 8, 24), "decoder_input_ids": TOKENS}),
        "Swin": lambda: (
            transformers.SwinModel(transformers.SwinConfig(
                image_size=32, patch_size=2, embed_dim=16, depths=[2, 2], num_heads=[2, 4],
                window_size=4)), {"pixel_values": torch.randn(2, 3, 32, 32)}),
    }[name]()  # fmt: skip
    model.eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    compressed = gossamer.compress(model, given, choose="engine")
    assert not compressed.remaining
    double = {n: t.double() if t.is_floating_point() else t for n, t in given.items()}
    exact = copy.deepcopy(model).double()(**double)
    found = compressed(**given)
    for key, one in exact.items():
        if isinstance(one, Tensor):
            error = (found[key].double() - one).abs().max() / one.abs().max()
            assert float(error) <= 1e-5
