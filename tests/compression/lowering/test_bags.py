"""Bags of tokens, whole in the engine."""

import pytest
import torch
from torch import Tensor, nn

from gossamer import compress, load


class Bags(nn.Module):
    def __init__(self, mode: str, padding: int | None = None) -> None:
        super().__init__()
        self.bags = nn.EmbeddingBag(20, 6, mode=mode, padding_idx=padding)
        self.head = nn.Linear(6, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.bags(tokens))  # type: ignore[no-any-return]


TOKENS = torch.randint(20, (4, 5), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_rows_of_tokens_are_looked_up_and_summed(mode: str, tmp_path: object) -> None:
    torch.manual_seed(0)
    model = Bags(mode).eval()
    small = compress(model, TOKENS, choose="engine")
    assert not small.remaining
    small.save(f"{tmp_path}/n.gsm")
    for tokens in (TOKENS, TOKENS[:1].flip(1)):
        exact = model.double()(tokens).detach()
        found = load(f"{tmp_path}/n.gsm")(tokens.numpy())
        torch.testing.assert_close(torch.from_numpy(found).double(), exact, rtol=1e-5, atol=1e-6)
        model.float()


@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_tokens_of_padding_are_left_out(mode: str) -> None:
    torch.manual_seed(0)
    padding = int(TOKENS[0, 0])
    model = Bags(mode, padding).eval()
    nn.init.normal_(model.bags.weight)  # of padding, too, which counts for nothing all the same
    small = compress(model, TOKENS, choose="engine", threads=1)
    assert not small.remaining
    tokens = TOKENS.clone()
    tokens[1], tokens[2, 1:] = padding, padding
    torch.testing.assert_close(small(tokens), model(tokens).detach(), rtol=1e-5, atol=1e-6)


def test_the_largest_of_bags_with_padding_stay_in_pytorch() -> None:
    torch.manual_seed(0)
    model = Bags("max", padding=int(TOKENS[0, 0])).eval()
    small = compress(model, TOKENS, choose="engine", threads=1)
    assert any("embedding_bag" in name for name in small.remaining)
    torch.testing.assert_close(small(TOKENS), model(TOKENS).detach())
