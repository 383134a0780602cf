"""Units are compared by relative root mean square, so that no layer of a network is emptied."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gossamer import NByM, find_mask, prune


def conv(inputs: int, units: int, size: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, units, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(units),
    )


class Residual(nn.Module):
    def __init__(self, body: nn.Module, skip: nn.Module, last: nn.Module) -> None:
        super().__init__()
        self.body, self.skip, self.last = body, skip, last

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.last(self.skip(x) + self.body(x))
        return result


def basic(inputs: int, units: int, stride: int) -> nn.Module:
    skip = nn.Identity() if stride == 1 and inputs == units else conv(inputs, units, 1, stride)
    body = nn.Sequential(conv(inputs, units, 3, stride), nn.ReLU(), conv(units, units))
    return Residual(body, skip, nn.ReLU())


def bottleneck(inputs: int, units: int, stride: int) -> nn.Module:
    wide = 4 * units
    skip = nn.Identity() if stride == 1 and inputs == wide else conv(inputs, wide, 1, stride)
    body = nn.Sequential(
        conv(inputs, units, 1), nn.ReLU(), conv(units, units, 3, stride), nn.ReLU(),
        conv(units, wide, 1),
    )  # fmt: skip
    return Residual(body, skip, nn.ReLU())


def resnet(depths: tuple[int, ...], block: Callable[[int, int, int], nn.Module]) -> nn.Sequential:
    """Build the shape of a ResNet, of a quarter of the width."""
    layers: list[nn.Module] = [conv(3, 16, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inputs = 16
    for stage, depth in enumerate(depths):
        for number in range(depth):
            layers.append(block(inputs, 16 << stage, 2 if stage and not number else 1))
            inputs = (16 << stage) * (4 if block is bottleneck else 1)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10))


def mobilenet() -> nn.Sequential:
    """Build the shape of MobileNetV2, of half the width."""
    layers: list[nn.Module] = [conv(3, 16, 3, 2), nn.ReLU6()]
    inputs = 16
    for expansion, units, count, stride in (
        (1, 8, 1, 1), (6, 12, 2, 2), (6, 16, 3, 2), (6, 32, 4, 2), (6, 48, 3, 1), (6, 80, 3, 2),
        (6, 160, 1, 1),
    ):  # fmt: skip
        for number in range(count):
            inner, step = inputs * expansion, 1 if number else stride
            body = nn.Sequential(
                *((conv(inputs, inner, 1), nn.ReLU6()) if expansion > 1 else ()),
                conv(inner, inner, 3, step, groups=inner), nn.ReLU6(), conv(inner, units, 1),
            )  # fmt: skip
            alike = step == 1 and inputs == units
            layers.append(Residual(body, nn.Identity(), nn.Identity()) if alike else body)
            inputs = units
    last = [conv(inputs, 640, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, *last, nn.Linear(640, 10))


NETWORKS: dict[str, Callable[[], nn.Sequential]] = {
    "resnet-18": lambda: resnet((2, 2, 2, 2), basic),
    "resnet-50": lambda: resnet((3, 4, 6, 3), bottleneck),
    "mobilenet-v2": mobilenet,
}


def as_its_library_starts(name: str) -> nn.Sequential:
    torch.manual_seed(0)
    model = NETWORKS[name]()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
    return model


@pytest.mark.parametrize("name", NETWORKS)
def test_half_of_the_units_may_go_and_every_layer_and_every_output_is_left(name: str) -> None:
    model = as_its_library_starts(name)
    images = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    mask = prune(model, 0.5, pattern="unit", exclude="output layer", example=images)
    assert mask.provenance["score"] == "relative-rms"
    assert mask.sparsity == pytest.approx(0.5, abs=0.01)
    assert min(mask.densities.values()) > 0.05
    with torch.no_grad():
        outputs = model(images)  # with the batch's own statistics: as the network would train
    assert (outputs.std(0) > 1e-4).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_raw_norms_empty_layers_and_a_warning_names_them(name: str) -> None:
    model = as_its_library_starts(name)
    with pytest.warns(
        RuntimeWarning, match=r"little is left of \d+ of \d+ layers, .* 50% are kept"
    ):
        mask = find_mask(model, 0.5, pattern="unit", score="magnitude", exclude="output layer")
    assert min(mask.densities.values()) < 0.05


def test_the_warning_counts_names_and_advises() -> None:
    model = nn.ModuleDict({name: nn.Linear(40, 30) for name in ("a", "b", "c")})
    with torch.no_grad():
        for parameter in model["b"].parameters():
            parameter.mul_(1e-3)
    sentence = (
        r"^little is left of 1 of 3 layers, which keep less than a twentieth of their units "
        r"although 60% are kept in all: b\.weight 3\.3%; .*Prune with allocation=\"uniform\", or "
        r"exclude these layers$"
    )
    with pytest.warns(RuntimeWarning, match=sentence) as caught:
        find_mask(model, 0.4, pattern="unit", score="magnitude", coupled=False)
    assert [warning.filename for warning in caught] == [__file__]
    # What says nothing: equal shares, what was asked for, and single weights.
    find_mask(model, 0.4, pattern="unit", score="magnitude", allocation="uniform", coupled=False)
    find_mask(model, 0.96, pattern="unit", score="magnitude", coupled=False)
    prune(model, 0.4)


@pytest.mark.parametrize("pattern", ["unit", "weight", NByM(1, 2)])
def test_the_score_left_out_is_the_patterns(pattern: str | NByM) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 16))
    sparsity = None if isinstance(pattern, NByM) else 0.5
    mask = find_mask(model, sparsity, pattern=pattern)
    named = "relative-rms" if pattern == "unit" else "magnitude"
    assert mask.provenance["score"] == named
    assert mask == find_mask(model, sparsity, pattern=pattern, score=named)


@pytest.mark.parametrize(
    ("score", "going"),
    [
        # 0.1, 0.3, 0.5 and 3, 4, 5.
        ("rms", ["1 0", "1 1", "0 0", "0 1"]),
        # Over those of the layers, 4.082 and 0.342: 0.735, 0.980, 1.225 and 0.293, 0.878, 1.464.
        ("relative-rms", ["1 0", "0 0", "1 1", "0 1"]),
        # Times the roots of the fan-ins, 2 and 6: 6, 8, 10 and 0.6, 1.8, 3.
        ("magnitude", ["1 0", "1 1", "0 0", "0 1"]),
    ],
)
def test_units_go_by_their_root_mean_square(score: str, going: list[str]) -> None:
    model = nn.Sequential(nn.Linear(4, 3, bias=False), nn.Linear(36, 3, bias=False))
    values = ([3.0, 4.0, 5.0], [0.1, 0.3, 0.5])  # the root mean squares of units
    for layer, of_units in zip(model, values, strict=True):
        layer.get_parameter("weight").data = (
            torch.tensor(of_units)[:, None]
            .expand(3, layer.get_parameter("weight").shape[1])
            .clone()
        )
    weights = {"0": 4, "1": 36}
    for count in range(1, 5):
        pruned = sum(weights[name[0]] for name in going[:count])
        mask = find_mask(model, pruned / 120, pattern="unit", score=score)
        gone = {
            f"{name[0]} {unit}"
            for name, kept in mask.weights.items()
            for unit in (~kept.any(1)).nonzero().flatten().tolist()
        }
        assert gone == set(going[:count])


def test_the_scale_of_a_layer_does_not_count() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 10))
    mask = find_mask(model, 0.5, pattern="unit")
    with torch.no_grad():
        model[0].get_parameter("weight").mul_(64)
    assert find_mask(model, 0.5, pattern="unit") == mask
    assert find_mask(model, 0.5, pattern="unit", score="magnitude") != mask


def test_a_layer_of_zeros_goes_first() -> None:
    model = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 6))
    with torch.no_grad():
        model[0].get_parameter("weight").zero_()
    mask = find_mask(model, 54 / 120, pattern="unit", allocation="global", exclude=())
    assert [int(kept.any(1).sum()) for kept in mask.weights.values()] == [1, 6]
