"""The architectures of the table: how each is made, with random weights, and an example for it.

torchvision, timm and transformers come with `pip install -e ".[zoo]"`. Beside a PyTorch without
CUDA, torchvision wants two operators that no network here uses; they are declared and stay empty.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Inputs = tuple[Tensor, ...]
Made = tuple[nn.Module, Inputs]
"""A network and an example of a batch of 2, by the positions of its inputs."""


def _torchvision(name: str, size: int = 64, **options: Any) -> Callable[[], Made]:
    def made() -> Made:
        _declare_operators()
        from torchvision import models

        given: dict[str, Any] = {"weights": None, **options}
        if "resnet50" in name and "_" in name:
            given["weights_backbone"] = None
        if name in ("googlenet", "inception_v3"):
            given |= {"init_weights": False, "aux_logits": False}
        if name == "vit_b_16":
            vit: dict[str, Any] = {
                "num_layers": 4,
                "num_heads": 4,
                "hidden_dim": 128,
                "mlp_dim": 256,
            }
            return models.VisionTransformer(size, 16, **vit), _images(size)
        make = getattr(models.segmentation if "_resnet50" in name else models, name)
        return make(**given), _images(size)

    return made


def _declare_operators() -> None:
    """Declare what torchvision's own wheel would hold."""
    if not hasattr(torch.ops.torchvision, "nms"):
        library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float threshold) -> Tensor")
        _KEPT.append(library)


_KEPT: list[Any] = []


def _images(size: int) -> Inputs:
    return (torch.randn(2, 3, size, size),)


def _timm(name: str, size: int = 64, **options: Any) -> Callable[[], Made]:
    def make() -> Made:
        _declare_operators()
        import timm

        model: nn.Module = timm.create_model(name, pretrained=False, **options)
        return model, _images(size)

    return make


def _convmixer() -> Made:
    _declare_operators()
    from timm.models.convmixer import ConvMixer

    return ConvMixer(dim=64, depth=4, num_classes=10), _images(64)


class _Hidden(nn.Module):
    """A model of transformers that is called by position and gives its last hidden states."""

    def __init__(self, model: nn.Module, *names: str) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return [N, tokens, width]."""
        named = dict(zip(self.names, inputs, strict=True))
        return self.model(**named, return_dict=True).last_hidden_state  # type: ignore[no-any-return]


_SMALL: dict[str, Any] = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
}  # fmt: skip


_MASKED_BERT = "bert, token ids and mask"


def _hugging_face(kind: str) -> Callable[[], Made]:
    def make() -> Made:
        _declare_operators()
        import transformers as t

        tokens = (torch.randn(2, 16, 64),)
        if kind == "bert":
            return _Hidden(t.BertModel(t.BertConfig(**_SMALL)), "inputs_embeds"), tokens
        if kind == _MASKED_BERT:
            mask = (torch.arange(16) < torch.tensor([[16], [11]])).long()
            model = t.BertModel(t.BertConfig(**_SMALL, vocab_size=200))
            return _Hidden(model, "input_ids", "attention_mask"), (
                torch.randint(200, (2, 16)),
                mask,
            )
        if kind == "distilbert":
            config: Any = t.DistilBertConfig(dim=64, n_layers=2, n_heads=4, hidden_dim=128)
            return _Hidden(t.DistilBertModel(config), "inputs_embeds"), tokens
        if kind == "gpt2":
            config = t.GPT2Config(n_embd=64, n_layer=2, n_head=4, use_cache=False)
            return _Hidden(t.GPT2Model(config), "inputs_embeds"), tokens
        if kind == "vit":
            config = t.ViTConfig(**_SMALL, image_size=32, patch_size=8)
            return _Hidden(t.ViTModel(config), "pixel_values"), _images(32)
        if kind == "llama":
            config = t.LlamaConfig(**_SMALL, num_key_value_heads=2, use_cache=False)
            return _Hidden(t.LlamaModel(config), "inputs_embeds"), tokens
        config = t.WhisperConfig(
            d_model=64, encoder_layers=2, encoder_attention_heads=4, encoder_ffn_dim=128,
            max_source_positions=32, num_mel_bins=20,
        )  # fmt: skip
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        return _Hidden(WhisperEncoder(config), "input_features"), (torch.randn(2, 20, 64),)

    return make


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
    )  # fmt: skip


class UNet(nn.Module):
    """U-Net (Ronneberger et al. 2015) of three levels."""

    def __init__(self, *, transposed: bool) -> None:
        super().__init__()
        self.down = nn.ModuleList([_block(3, 16), _block(16, 32)])
        self.bottom = _block(32, 64)
        up: list[nn.Module] = []
        for inputs, outputs in ((64, 32), (32, 16)):
            resize = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            smooth = nn.Sequential(resize, nn.Conv2d(inputs, outputs, 1))
            up.append(nn.ConvTranspose2d(inputs, outputs, 2, 2) if transposed else smooth)
        self.up = nn.ModuleList(up)
        self.merge = nn.ModuleList([_block(64, 32), _block(32, 16)])
        self.head = nn.Conv2d(16, 2, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [N, 2, height, width]."""
        seen = []
        for block in self.down:
            inputs = block(inputs)
            seen.append(inputs)
            inputs = functional.max_pool2d(inputs, 2)
        inputs = self.bottom(inputs)
        for up, merge in zip(self.up, self.merge, strict=True):
            inputs = merge(torch.cat([seen.pop(), up(inputs)], 1))
        return self.head(inputs)  # type: ignore[no-any-return]


def _autoencoder() -> Made:
    def norm(channels: int) -> list[nn.Module]:
        return [nn.BatchNorm2d(channels), nn.ReLU()]

    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1), *norm(16), nn.Conv2d(16, 32, 3, 2, 1), *norm(32),
        nn.ConvTranspose2d(32, 16, 3, 2, 1, 1), *norm(16), nn.ConvTranspose2d(16, 1, 3, 2, 1, 1),
        nn.Sigmoid(),
    ), (torch.randn(2, 1, 28, 28),)  # fmt: skip


def _dcgan() -> Made:
    def up(inputs: int, outputs: int, stride: int, padding: int) -> list[nn.Module]:
        layer = nn.ConvTranspose2d(inputs, outputs, 4, stride, padding, bias=False)
        return [layer, nn.BatchNorm2d(outputs), nn.ReLU()]

    return nn.Sequential(
        *up(64, 64, 1, 0), *up(64, 32, 2, 1), *up(32, 16, 2, 1),
        nn.ConvTranspose2d(16, 3, 4, 2, 1, bias=False), nn.Tanh(),
    ), (torch.randn(2, 64, 1, 1),)  # fmt: skip


class _Recurrent(nn.Module):
    def __init__(self, kind: type[nn.LSTM | nn.GRU]) -> None:
        super().__init__()
        self.recurrent = kind(12, 32, num_layers=2, batch_first=True)
        self.head = nn.Linear(32, 5)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [N, 5]."""
        return self.head(self.recurrent(inputs)[0][:, -1])  # type: ignore[no-any-return]


class _Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(32, 5)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [N, 5]."""
        return self.head(self.encoder(inputs).mean(1))  # type: ignore[no-any-return]


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.head = nn.Linear(32, 5)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [N, 5]."""
        found = self.attention(inputs, inputs, inputs, need_weights=False)[0]
        return self.head((inputs + found).mean(1))  # type: ignore[no-any-return]


def _keywords() -> Made:
    return nn.Sequential(
        nn.Conv1d(20, 32, 5, 2), nn.BatchNorm1d(32), nn.ReLU(), nn.Conv1d(32, 48, 3, dilation=2),
        nn.BatchNorm1d(48), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(48, 10),
    ), (torch.randn(2, 20, 49),)  # fmt: skip


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(20, 32), nn.Linear(32, 5)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.BatchNorm1d(32), nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))
            for _ in range(3)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [N, 5]."""
        inputs = self.first(inputs)
        for block in self.blocks:
            inputs = inputs + block(inputs)
        return self.last(inputs)  # type: ignore[no-any-return]


class _Bags(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bags, self.head = nn.EmbeddingBag(50, 16, mode="mean"), nn.Linear(16, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return [N, 5]."""
        return self.head(self.bags(tokens))  # type: ignore[no-any-return]


class _TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image, self.table = nn.Conv2d(3, 8, 3), nn.Linear(6, 8)
        self.head = nn.Linear(16, 5)

    def forward(self, image: Tensor, table: Tensor) -> Tensor:
        """Return [N, 5]."""
        seen = functional.relu(self.image(image)).mean((2, 3))
        joined = torch.cat([seen, functional.relu(self.table(table))], 1)
        return self.head(joined)  # type: ignore[no-any-return]


class _TwoOutputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(10, 32), nn.ReLU())
        self.classes, self.value = nn.Linear(32, 5), nn.Linear(32, 1)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return [N, 5] and [N, 1]."""
        found = self.body(inputs)
        return self.classes(found), self.value(found)


def _own(make: Callable[[], nn.Module], *shape: int) -> Callable[[], Made]:
    return lambda: (make(), (torch.randn(2, *shape),))


ARCHITECTURES: dict[str, Callable[[], Made]] = {
    **{
        name: _torchvision(name)
        for name in (
            "resnet18",
            "resnet50",
            "mobilenet_v2",
            "mobilenet_v3_small",
            "efficientnet_b0",
            "densenet121",
            "squeezenet1_1",
            "shufflenet_v2_x1_0",
            "googlenet",
        )
    },
    "inception_v3": _torchvision("inception_v3", 96),
    **{name: _torchvision(name) for name in ("vgg11_bn", "alexnet", "regnet_y_400mf")},
    **{name: _torchvision(name) for name in ("mnasnet1_0", "convnext_tiny", "vit_b_16", "swin_t")},
    **{name: _torchvision(name) for name in ("fcn_resnet50", "deeplabv3_resnet50")},
    "timm resnet26": _timm("resnet26"),
    "timm efficientnet_lite0": _timm("efficientnet_lite0"),
    "timm mixer_s16": _timm("mixer_s16_224", img_size=64),
    "timm deit_tiny": _timm("deit_tiny_patch16_224", img_size=64),
    "timm convmixer": _convmixer,
    **{
        f"transformers {name}": _hugging_face(name)
        for name in (
            "bert",
            "bert, token ids and mask",
            "distilbert",
            "gpt2",
            "vit",
            "llama",
            "whisper",
        )
    },
    "U-Net, transposed convolutions": _own(lambda: UNet(transposed=True), 3, 32, 32),
    "U-Net, bilinear": _own(lambda: UNet(transposed=False), 3, 32, 32),
    "convolutional autoencoder": _autoencoder,
    "DCGAN generator": _dcgan,
    "LSTM classifier": _own(lambda: _Recurrent(nn.LSTM), 20, 12),
    "GRU classifier": _own(lambda: _Recurrent(nn.GRU), 20, 12),
    "TransformerEncoder classifier": _own(_Encoder, 16, 32),
    "MultiheadAttention classifier": _own(_Attention, 16, 32),
    "keyword spotting, Conv1d": _keywords,
    "residual perceptron": _own(_Residual, 20),
    "EmbeddingBag classifier": lambda: (_Bags(), (torch.randint(50, (2, 7)),)),
    "two inputs": lambda: (_TwoInputs(), (torch.randn(2, 3, 12, 12), torch.randn(2, 6))),
    "two outputs": _own(_TwoOutputs, 10),
}
"""By name: a network and an example."""


def made(name: str) -> Made:
    """Return a network with random weights, the same each time, and an example for it."""
    torch.manual_seed(0)
    model, example = ARCHITECTURES[name]()
    enliven(model.eval(), example)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():  # as some heads are when they are made
                parameter.normal_(std=0.02)
    return model, example


def enliven(model: nn.Module, example: Inputs, seed: int = 0) -> None:
    """Give normalisations scales that differ, and statistics of what they see, made uneven.

    Without it, random weights that were pruned leave activations of 0 behind a few layers. Each
    normalisation sees what those before it give with the statistics that they have by then: where
    all are estimated at once, activations grow from layer to layer. No channel is taken to spread
    less than half of their mean: pruning leaves some constant, and dividing by next to nothing
    would amplify rounding, of PyTorch's numbers as of others, a thousandfold.
    """
    generator = torch.Generator().manual_seed(seed)
    wide = [
        torch.randn(4 * len(one), *one.shape[1:]) if one.is_floating_point() else one.repeat(4, 1)
        for one in example
    ]

    def estimate(norm: Any, given: tuple[Tensor, ...]) -> None:
        mean, size = given[0].transpose(0, 1).flatten(1).mean(1), norm.running_mean.shape
        spread = given[0].transpose(0, 1).flatten(1).std(1, correction=0)
        spread = spread.clamp(min=float(spread.mean()) / 2)
        norm.running_mean.copy_(mean + 0.5 * spread * torch.randn(size, generator=generator))
        norm.running_var.copy_(spread**2 * 2 ** (2 * torch.rand(size, generator=generator) - 1))

    with torch.no_grad():
        hooks = []
        for norm in model.modules():
            kinds = nn.LayerNorm | nn.GroupNorm | nn.modules.batchnorm._BatchNorm
            if isinstance(norm, kinds) and norm.weight is not None:
                norm.weight.mul_(0.5 + torch.rand(norm.weight.shape, generator=generator))
                if norm.bias is not None:
                    norm.bias.add_(0.5 * torch.randn(norm.bias.shape, generator=generator))
            if isinstance(norm, nn.modules.batchnorm._BatchNorm):
                hooks.append(norm.register_forward_pre_hook(estimate))
        model.eval()(*wide)
        for hook in hooks:
            hook.remove()


def parameters(model: nn.Module) -> int:
    """Return how many numbers a network has, each once."""
    return sum(math.prod(parameter.shape) for parameter in model.parameters())
