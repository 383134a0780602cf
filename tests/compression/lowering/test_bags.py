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


def test_bags_that_leave_a_token_out_stay_in_pytorch() -> None:
    torch.manual_seed(0)
    model = Bags("mean", padding=TOKENS[0, 0].item()).eval()  # type: ignore[arg-type]
    small = compress(model, TOKENS, choose="engine")
    assert any("embedding_bag" in name for name in small.remaining)
    torch.testing.assert_close(small(TOKENS), model(TOKENS))
