"""The networks people know, written plainly: residual, mobile, transformers, recurrent.

Weights are random, as PyTorch draws them; `examples` makes what each takes.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks._zoo import enliven

IMAGE = (3, 224, 224)
TOKENS, STEPS, FEATURES = 128, 100, 64
BERT_VOCABULARY, GPT2_VOCABULARY = 30522, 4096


def _convolved(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> Any:
    padding = kernel // 2
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(layer, nn.BatchNorm2d(outputs))


class _Residual(nn.Module):
    """A basic block, or a bottleneck whose last convolution is four times as wide."""

    def __init__(self, inputs: int, width: int, stride: int, *, bottleneck: bool) -> None:
        super().__init__()
        outputs = 4 * width if bottleneck else width
        self.body = (
            nn.Sequential(
                _convolved(inputs, width, 1), nn.ReLU(), _convolved(width, width, 3, stride),
                nn.ReLU(), _convolved(width, outputs, 1),
            )
            if bottleneck
            else nn.Sequential(
                _convolved(inputs, width, 3, stride), nn.ReLU(), _convolved(width, width, 3)
            )
        )  # fmt: skip
        same = inputs == outputs and stride == 1
        self.beside = nn.Identity() if same else _convolved(inputs, outputs, 1, stride)

    def forward(self, inputs: Tensor) -> Tensor:
        return functional.relu(self.body(inputs) + self.beside(inputs))


def resnet(blocks: tuple[int, ...], *, bottleneck: bool) -> nn.Module:
    """ResNet (He et al. 2016) for 1,000 classes."""
    layers: list[nn.Module] = [_convolved(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for stage, count in enumerate(blocks):
        for number in range(count):
            stride = 2 if stage > 0 and number == 0 else 1
            layers.append(_Residual(channels, 64 << stage, stride, bottleneck=bottleneck))
            channels = (64 << stage) * (4 if bottleneck else 1)
    head = nn.Linear(channels, 1000)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


class _Inverted(nn.Module):
    """An inverted residual with a linear bottleneck."""

    def __init__(self, inputs: int, outputs: int, stride: int, expand: int) -> None:
        super().__init__()
        wide = inputs * expand
        first = [_convolved(inputs, wide, 1), nn.ReLU6()] if expand > 1 else []
        depthwise = _convolved(wide, wide, 3, stride, groups=wide)
        self.body = nn.Sequential(*first, depthwise, nn.ReLU6(), _convolved(wide, outputs, 1))
        self.adds = stride == 1 and inputs == outputs

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.body(inputs)
        return inputs + found if self.adds else found


def mobilenet_v2() -> nn.Module:
    """MobileNetV2 (Sandler et al. 2018) for 1,000 classes."""
    layers: list[nn.Module] = [_convolved(3, 32, 3, 2), nn.ReLU6()]
    channels = 32
    rows = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
            (6, 160, 3, 2), (6, 320, 1, 1))  # fmt: skip
    for expand, outputs, count, stride in rows:
        for number in range(count):
            layers.append(_Inverted(channels, outputs, stride if number == 0 else 1, expand))
            channels = outputs
    layers += [_convolved(channels, 1280, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(1280, 1000))


class _Attending(nn.Module):
    """Multi-head attention; given what is kept of earlier tokens, it gives what is to be kept."""

    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.heads, self.causal = heads, causal

    def _split(self, inputs: Tensor) -> tuple[Tensor, ...]:
        count, tokens, width = inputs.shape
        parts = self.into(inputs).chunk(3, -1)
        shape = (count, tokens, self.heads, width // self.heads)
        return tuple(part.reshape(shape).transpose(1, 2) for part in parts)

    def _joined(self, found: Tensor) -> Tensor:
        return self.out(found.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def forward(self, inputs: Tensor) -> Tensor:
        query, key, value = self._split(inputs)
        attend = functional.scaled_dot_product_attention
        return self._joined(attend(query, key, value, is_causal=self.causal))

    def one(self, inputs: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what one token comes to, with its key and its value."""
        query, key, value = self._split(inputs)
        keys, values = torch.cat([keys, key], 2), torch.cat([values, value], 2)
        found = functional.scaled_dot_product_attention(query, keys, values)
        return self._joined(found), key, value


class _Block(nn.Module):
    """Attention and two linear layers, normalised before them (GPT-2, ViT) or after (BERT)."""

    def __init__(self, width: int, heads: int, *, first: bool, causal: bool, gelu: str) -> None:
        super().__init__()
        self.attention = _Attending(width, heads, causal=causal)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.body = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(gelu), nn.Linear(4 * width, width)
        )
        self.first = first

    def forward(self, inputs: Tensor) -> Tensor:
        if self.first:
            inputs = inputs + self.attention(self.norms[0](inputs))
            return inputs + self.body(self.norms[1](inputs))  # type: ignore[no-any-return]
        inputs = self.norms[0](inputs + self.attention(inputs))
        return self.norms[1](inputs + self.body(inputs))  # type: ignore[no-any-return]

    def one(self, inputs: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what one token comes to, with its key and its value."""
        found, key, value = self.attention.one(self.norms[0](inputs), keys, values)
        inputs = inputs + found
        return inputs + self.body(self.norms[1](inputs)), key, value


class Bert(nn.Module):
    """An encoder of tokens as BERT is (Devlin et al. 2019), with two classes."""

    def __init__(self, layers: int, width: int, vocabulary: int) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(vocabulary, width), nn.Embedding(512, width)
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.Sequential(
            *(
                _Block(width, width // 64, first=False, causal=False, gelu="none")
                for _ in range(layers)
            )
        )
        self.pooler, self.head = nn.Linear(width, width), nn.Linear(width, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return [N, 2] for tokens [N, length]."""
        places = self.places.weight[: tokens.shape[1]]
        found = self.blocks(self.norm(self.words(tokens) + places))
        return self.head(torch.tanh(self.pooler(found[:, 0])))  # type: ignore[no-any-return]


class ViT(nn.Module):
    """ViT-tiny (Touvron et al. 2021): 12 layers of 192, patches of 16 x 16."""

    def __init__(self) -> None:
        super().__init__()
        width = 192
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.places = nn.Parameter(0.02 * torch.randn(1, 197, width))
        self.blocks = nn.Sequential(
            *(_Block(width, 3, first=True, causal=False, gelu="none") for _ in range(12))
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 1000)

    def forward(self, images: Tensor) -> Tensor:
        """Return [N, 1000]."""
        patches = self.patches(images).flatten(2).transpose(1, 2)
        token = self.token.expand(len(images), -1, -1)
        found = self.blocks(torch.cat([token, patches], 1) + self.places)
        return self.head(self.norm(found)[:, 0])  # type: ignore[no-any-return]


class Gpt2(nn.Module):
    """A decoder as GPT-2 is (Radford et al. 2019); its head is the table of its words."""

    def __init__(self, layers: int, width: int, vocabulary: int) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(vocabulary, width), nn.Embedding(1024, width)
        nn.init.normal_(self.words.weight, std=0.02)
        self.blocks = nn.ModuleList(
            _Block(width, width // 64, first=True, causal=True, gelu="tanh") for _ in range(layers)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.words.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Return [N, length, vocabulary] for tokens [N, length]."""
        found = self.words(tokens) + self.places.weight[: tokens.shape[1]]
        for block in self.blocks:
            found = block(found)
        return self.head(self.norm(found))  # type: ignore[no-any-return]

    def kept(self, count: int, length: int) -> list[Tensor]:
        """Return keys and values of so many tokens, as `Step` takes them."""
        width = self.words.embedding_dim
        shape = (count, width // 64, length, 64)
        return [torch.randn(shape) for _ in range(2 * len(self.blocks))]


class Step(nn.Module):
    """One token of a decoder, given keys and values [N, heads, length, 64] of those before.

    Gives the logits, and of each layer the key and the value to be kept: what costs least.
    """

    def __init__(self, model: Gpt2) -> None:
        super().__init__()
        self.model = model

    def forward(self, token: Tensor, kept: list[Tensor]) -> list[Tensor]:
        """Return [N, 1, vocabulary], and keys and values [N, heads, 1, 64] of each layer."""
        model, found = self.model, []
        length = kept[0].shape[2]
        state: Tensor = model.words(token) + model.places.weight[length : length + 1]
        for block, keys, values in zip(model.blocks, kept[::2], kept[1::2], strict=True):
            assert isinstance(block, _Block)
            state, key, value = block.one(state, keys, values)
            found += [key, value]
        return [model.head(model.norm(state)), *found]


class Recurrent(nn.Module):
    """An LSTM of two layers of 256 with ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(FEATURES, 256, num_layers=2, batch_first=True)
        self.head = nn.Linear(256, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [N, 10] for [N, steps, features]."""
        return self.head(self.recurrent(inputs)[0][:, -1])  # type: ignore[no-any-return]


def _images(count: int) -> Tensor:
    return torch.randn(count, *IMAGE, generator=torch.Generator().manual_seed(1))


def _tokens(vocabulary: int) -> Callable[[int], Tensor]:
    return lambda count: torch.randint(
        vocabulary, (count, TOKENS), generator=torch.Generator().manual_seed(1)
    )


def _sequences(count: int) -> Tensor:
    return torch.randn(count, STEPS, FEATURES, generator=torch.Generator().manual_seed(1))


def _enlivened(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    def made() -> nn.Module:
        model = make().eval()
        enliven(model, (_images(2),))
        return model

    return made


KNOWN: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor]]] = {
    "resnet18": (_enlivened(lambda: resnet((2, 2, 2, 2), bottleneck=False)), _images),
    "resnet50": (_enlivened(lambda: resnet((3, 4, 6, 3), bottleneck=True)), _images),
    "mobilenet-v2": (_enlivened(mobilenet_v2), _images),
    "bert-4x256": (lambda: Bert(4, 256, BERT_VOCABULARY), _tokens(BERT_VOCABULARY)),
    "bert-6x768": (lambda: Bert(6, 768, BERT_VOCABULARY), _tokens(BERT_VOCABULARY)),
    "vit-tiny": (ViT, _images),
    "gpt2-4x256": (lambda: Gpt2(4, 256, GPT2_VOCABULARY), _tokens(GPT2_VOCABULARY)),
    "gpt2-6x768-token": (lambda: Gpt2(6, 768, GPT2_VOCABULARY), _tokens(GPT2_VOCABULARY)),
    "lstm-2x256": (Recurrent, _sequences),
}
"""By name: what makes a network, and examples for a batch of it."""


def made(name: str) -> nn.Module:
    """Return a network in evaluation mode, with the same random weights each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return KNOWN[name][0]().eval().requires_grad_(False)


def examples(name: str, count: int) -> Tensor:
    """Return what a network takes, [count, ...]."""
    return KNOWN[name][1](count)
