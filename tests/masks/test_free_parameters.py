"""Prunable is what an operation multiplies with; other parameters are left alone, and named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gossamer import ERK, Mask, find_mask, prune
from gossamer.core.errors import InputError
from gossamer.graph import capture
from gossamer.masks import prunable_weights


def free(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape))


class Body(nn.Module):
    """Runs a function; guarded, in a way that cannot be traced without an input."""

    def __init__(self, run: Callable[[Any, Tensor], Any], **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.run = run
        self.guarded = False

    def forward(self, x: Tensor) -> Any:
        if self.guarded and not torch.isfinite(x).all():
            raise ValueError("not finite")
        return self.run(self, x)


class TransposedLinear(nn.Module):
    """A linear layer whose weight is [inputs, units], as GPT-2 has it."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.weight, self.bias = free(inputs, units), free(units)
        self.units = units

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight)
        return rows.view(x.size()[:-1] + (self.units,))  # noqa: RUF005 - as it is written there


class LowRank(nn.Linear):
    def __init__(self, inputs: int, units: int) -> None:
        super().__init__(inputs, units)
        self.down, self.up, self.offset = free(2, inputs), free(units, 2), free(1, units)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight + self.up @ self.down, self.bias) + self.offset


TOKENS = (2, 5, 6)
LEFT: list[tuple[Body, set[str], set[str]]] = [
    (Body(lambda m, x: m.l(x + m.pos), l=nn.Linear(6, 3), pos=free(1, 5, 6)), {"l.weight"},
     {"pos"}),
    (Body(lambda m, x: m.l(torch.cat([m.cls.expand(x.size(0), -1, -1), x], 1)), l=nn.Linear(6, 3),
          cls=free(1, 1, 6)), {"l.weight"}, {"cls"}),
    (Body(lambda m, x: x + m.l(x) * m.gamma, l=nn.Linear(6, 6), gamma=free(1, 1, 6)), {"l.weight"},
     {"gamma"}),
    (Body(lambda m, x: (m.q(x) @ m.q(x).mT)[:, None] + m.bias_of_places, q=nn.Linear(6, 6),
          bias_of_places=free(1, 4, 5, 5)), {"q.weight"}, set()),
    (Body(lambda m, x: (m.q(x) @ m.q(x).mT)[:, None] + m.relative[:, :, m.index], q=nn.Linear(6, 6),
          relative=free(1, 4, 9), index=torch.arange(5)[:, None] - torch.arange(5) + 4),
     {"q.weight"}, {"relative"}),
    (Body(lambda m, x: m.l(x + m.table[torch.arange(x.size(1))]), l=nn.Linear(6, 3),
          table=free(9, 6)), {"l.weight"}, {"table"}),
    (Body(lambda m, x: m.l(torch.where(x[..., :1] > 0, x, m.token)), l=nn.Linear(6, 3),
          token=free(1, 1, 6)), {"l.weight"}, {"token"}),
    (Body(lambda m, x: m.l(x), l=nn.Linear(6, 3), unused=free(3, 3)), {"l.weight"}, {"unused"}),
    (Body(lambda m, x: x @ m.ws[0] @ m.ws[1] + m.ws[2],
          ws=nn.ParameterList([free(6, 6), free(6, 3), free(5, 3)])), {"ws.0", "ws.1"}, {"ws.2"}),
    (Body(lambda m, x: torch.einsum("btf,fo->bto", x, m.d["w"]) * m.d["s"],
          d=nn.ParameterDict({"w": free(6, 3), "s": free(1, 3)})), {"d.w"}, {"d.s"}),
    (Body(lambda m, x: torch.bmm(x, m.w.expand(x.size(0), -1, -1)), w=free(1, 6, 3)), {"w"}, set()),
    (Body(lambda m, x: x @ m.w[:6].t()[:, :3].to(x.dtype), w=free(8, 6)), {"w"}, set()),
    (Body(lambda m, x: functional.linear(x, torch.cat([m.a, m.b])), a=free(2, 6), b=free(3, 6)),
     {"a", "b"}, set()),
    (Body(lambda m, x: x @ (m.w * m.kept).T, w=free(3, 6), kept=torch.ones(3, 6)), {"w"}, set()),
    (Body(lambda m, x: functional.linear(x, m.v * (m.g / m.v.norm(dim=1, keepdim=True))),
          v=free(7, 6), g=free(7, 1)), {"v"}, {"g"}),
    (Body(lambda m, x: torch.addmm(m.shift, x.flatten(0, 1), m.w), w=free(6, 2), shift=free(1, 2)),
     {"w"}, {"shift"}),
    (Body(lambda m, x: functional.conv1d(x.mT, m.w, m.s), w=free(4, 6, 1), s=free(4)), {"w"},
     set()),
    (Body(lambda m, x: m.table[(x[..., 0] > 0).long()], table=free(4, 6)), {"table"}, set()),
    (Body(lambda m, x: m.c(x), c=TransposedLinear(6, 4)), {"c.weight"}, set()),
    (Body(lambda m, x: m.c(x), c=LowRank(6, 4)), {"c.weight", "c.down", "c.up"}, {"c.offset"}),
]  # fmt: skip


@pytest.mark.parametrize(("model", "weights", "left"), LEFT)
@pytest.mark.parametrize("guarded", [False, True])
def test_only_operands_of_products_are_pruned_and_the_rest_is_named(
    model: Body, weights: set[str], left: set[str], guarded: bool
) -> None:
    model.guarded = guarded
    mask = find_mask(model, 0.5, allocation="uniform", example=torch.randn(TOKENS))
    assert (set(mask.weights), set(mask.left_alone)) == (weights, left)
    if not guarded:
        traced = find_mask(model, 0.5, allocation="uniform")
        assert (traced, set(traced.left_alone)) == (mask, left)


def test_what_was_left_alone_is_said_and_survives_a_file(tmp_path: Path) -> None:
    model = Body(
        lambda m, x: m.l(x + m.pos) * m.a * m.b * m.c * m.d,
        l=nn.Linear(6, 3), pos=free(1, 5, 6), a=free(1, 3), b=free(1, 3), c=free(1, 3),
        d=free(1, 3),
    )  # fmt: skip
    before = {name: value.clone() for name, value in model.named_parameters()}
    mask = prune(model, 0.5)
    reason = "no operation is seen to multiply with it"
    assert mask.left_alone == dict.fromkeys(("pos", "a", "b", "c", "d"), reason)
    assert repr(mask) == (
        "Mask(1 weights, 9 of 18 pruned by magnitude, sparsity 0.5000; "
        "left alone: pos, a, b, c and 1 more)"
    )
    assert all(torch.equal(before[name], model.get_parameter(name)) for name in mask.left_alone)
    mask.save(tmp_path / "mask")
    assert Mask.load(tmp_path / "mask").left_alone == mask.left_alone
    assert mask.shuffled(0).left_alone == mask.left_alone
    assert "left alone" not in repr(prune(nn.Linear(2, 2), 0.5))


def test_free_parameters_are_pruned_where_they_are_named() -> None:
    model = Body(lambda m, x: m.l(x + m.pos), l=nn.Linear(6, 3), pos=free(1, 5, 6))
    named = find_mask(model, 0.5, include="p*")
    assert (list(named), named.size, named.left_alone) == (["pos", "l.weight"], 48, {})
    mapped = find_mask(model, 0.5, allocation={"pos": 0.9})
    assert mapped.densities == {"pos": pytest.approx(0.1), "l.weight": 0.5}
    assert list(find_mask(model, 0.5, include="pos", exclude="pos")) == ["l.weight"]
    assert find_mask(model, 0.5, exclude="pos").left_alone == {}
    assert list(find_mask(model, 0.5, include="pos", allocation=ERK())) == ["pos", "l.weight"]
    with pytest.raises(InputError, match=r"'p\*', which is no prunable weight"):
        find_mask(model, 0.5, allocation={"p*": 0.9})


@pytest.mark.parametrize(
    ("include", "sentence"),
    [
        ("no*", r"include='no\*' matches no floating-point .*; they are pos, l\.weight"),
        ("l.bias", r"include='l\.bias' matches no floating-point parameter of two or more"),
        (3, "include must be a pattern of parameter or module names, or a list of them, not 3"),
    ],
)
def test_include_of_nothing_is_refused(include: Any, sentence: str) -> None:
    model = Body(lambda m, x: m.l(x + m.pos), l=nn.Linear(6, 3), pos=free(1, 5, 6))
    with pytest.raises(InputError, match=sentence):
        find_mask(model, 0.5, include=include)


def test_only_free_parameters_are_nothing_to_prune() -> None:
    model = Body(lambda m, x: x * m.scale, scale=free(1, 6))
    with pytest.raises(InputError, match=r"that an operation multiplies with; name .*\(scale\)"):
        find_mask(model, 0.5)
    assert find_mask(model, 0.5, include="scale").zeros == 3


def test_what_cannot_be_told_without_an_example_is_refused() -> None:
    model = Body(lambda m, x: m.l(x + m.pos), l=nn.Linear(6, 3), pos=free(1, 5, 6))
    model.guarded = True
    with pytest.raises(InputError, match=r"whether pos is a weight .* traced .*pass example="):
        find_mask(model, 0.5)
    assert list(find_mask(model, 0.5, exclude="pos")) == ["l.weight"]


def test_what_only_containers_hold_counts_as_weights() -> None:
    bag = nn.ModuleDict({"w": nn.ParameterList([torch.rand(2, 2)]), "l": nn.Linear(2, 2)})
    assert list(find_mask(bag, 0.5)) == ["w.0", "l.weight"]
    with pytest.raises(
        InputError, match=r"output layer cannot be found: ModuleDict has no forward"
    ):
        find_mask(bag, 0.5, exclude="output layer")


def test_the_forward_of_a_part_tells_where_the_whole_cannot_be_traced() -> None:
    model = Body(
        lambda m, x: m.second(m.first(x)), first=TransposedLinear(6, 6), second=LowRank(6, 4)
    )
    model.guarded = True
    assert {found.name for found in prunable_weights(model)} == {
        "first.weight", "second.weight", "second.down", "second.up",
    }  # fmt: skip


def test_what_is_not_used_is_told_apart_from_what_is_only_added() -> None:
    model = Body(
        lambda m, x: x @ (m.experts[0] if x.sum() > 0 else m.experts[1]) + m.shift,
        experts=nn.ParameterList([free(6, 6), free(6, 6)]), shift=free(1, 6),
    )  # fmt: skip
    mask = find_mask(model, 0.5, example=torch.ones(TOKENS))
    assert list(mask.weights) == ["experts.0"]
    assert mask.left_alone == {
        "experts.1": "the example does not use it: give one that does, or name it in include",
        "shift": "no operation is seen to multiply with it",
    }
    named = find_mask(model, 0.5, example=torch.ones(TOKENS), include="experts.1")
    assert list(named.weights) == ["experts.0", "experts.1"]
    plain = Body(lambda m, x: m.l(x), l=nn.Linear(6, 3), spare=free(3, 3))
    reason = "the forward does not use it: name it in include to prune it all the same"
    assert find_mask(plain, 0.5).left_alone == {"spare": reason}


def test_what_is_used_out_of_sight_is_not_called_unused() -> None:
    model = Body(
        lambda m, x: m.l(torch.vmap(lambda w: x @ w)(m.w).mean(0)), w=free(3, 6, 6),
        l=nn.Linear(6, 2),
    )  # fmt: skip
    mask = find_mask(model, 0.5, example=torch.randn(TOKENS))
    assert "w" in mask.weights or "does not use" not in mask.left_alone["w"]


def test_complex_parameters_are_named_with_the_reason() -> None:
    model = Body(
        lambda m, x: m.l(torch.fft.ifft(torch.fft.fft(x) @ m.w).real),
        l=nn.Linear(6, 3), w=nn.Parameter(torch.randn(6, 6, dtype=torch.cfloat)),
        phase=nn.Parameter(torch.randn(6, dtype=torch.cfloat)),
    )  # fmt: skip
    mask = find_mask(model, 0.5, example=torch.randn(TOKENS))
    assert list(mask.weights) == ["l.weight"]
    assert mask.left_alone == {"w": "its numbers are complex, and only real ones are pruned"}
    assert find_mask(model, 0.5, example=torch.randn(TOKENS), exclude="w").left_alone == {}


class OwnLinear(nn.Module):
    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.weight = free(units, inputs)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight)


def test_a_look_at_many_parameters_takes_one_trace_and_one_walk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[str] = []

    def count(name: str) -> None:
        one = getattr(capture, name)

        def counted(given: Any) -> Any:
            calls.append(name)
            return one(given)

        monkeypatch.setattr(capture, name, counted)

    for name in ("traced", "multiplied_parameters", "used_parameters"):
        count(name)
    mask = find_mask(nn.Sequential(*[OwnLinear(4, 4) for _ in range(30)]), 0.5)
    assert len(mask) == 30
    assert sorted(calls) == ["multiplied_parameters", "traced", "used_parameters"]


def test_what_is_computed_from_parameters_alone_is_walked_through_once() -> None:
    def doubled(m: Any, x: Tensor) -> Any:
        weight = m.w
        for _ in range(60):  # a walk along every path would take 2 ** 60 steps
            weight = weight + 0.1 * weight
        return x @ weight

    model = Body(doubled, w=free(6, 3))
    assert list(find_mask(model, 0.5).weights) == ["w"]
    assert list(find_mask(model, 0.5, example=torch.randn(TOKENS)).weights) == ["w"]
