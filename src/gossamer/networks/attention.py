"""Attention with fewer heads than its width has room for, as is left when heads were removed."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional


class NarrowMultiheadAttention(nn.MultiheadAttention):
    """`nn.MultiheadAttention` whose heads need not make up its width.

    Parameters keep their names: ``in_proj_weight`` is [3 x heads x size of a head, width], and
    ``out_proj.weight`` [width, heads x size of a head]. It is made from one of PyTorch's by `of`.
    """

    @staticmethod
    def of(attention: nn.MultiheadAttention) -> "NarrowMultiheadAttention":
        """Turn an attention into one of this class, in place; its parameters may be cut then."""
        attention.__class__ = NarrowMultiheadAttention
        # Encoders then call the layer and not a fused function that knows the usual widths only.
        attention._qkv_same_embed_dim = False
        return cast("NarrowMultiheadAttention", attention)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return what `nn.MultiheadAttention` does, with the heads that there are.

        Masks hold for all heads alike: [queries, keys], and [batch, keys] for padding.
        """
        if is_causal and attn_mask is None:
            raise RuntimeError("is_causal only says what attn_mask is: give that, too")
        batched = query.dim() == 3
        inputs = [one if batched else one.unsqueeze(0) for one in (query, key, value)]
        if batched and not self.batch_first:
            inputs = [one.transpose(0, 1) for one in inputs]
        projected = [
            functional.linear(one, weight, bias)
            for one, weight, bias in zip(inputs, *self._projections(), strict=True)
        ]
        heads = [one.view(*one.shape[:-1], -1, self.head_dim).transpose(1, 2) for one in projected]
        mask = _joined(attn_mask, key_padding_mask, query)
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = heads[0] @ heads[1].transpose(-2, -1) * self.head_dim**-0.5
            weights = torch.softmax(scores if mask is None else scores + mask, dim=-1)
            weights = functional.dropout(weights, dropout)
            found = weights @ heads[2]
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            found = functional.scaled_dot_product_attention(
                heads[0], heads[1], heads[2], attn_mask=mask, dropout_p=dropout
            )
        found = self.out_proj(found.transpose(1, 2).flatten(2))
        if not batched:
            return found.squeeze(0), None if weights is None else weights.squeeze(0)
        return (found if self.batch_first else found.transpose(0, 1)), weights

    def _projections(self) -> tuple[tuple[Tensor, ...], tuple[Tensor | None, ...]]:
        """Return the weights and biases of queries, keys and values."""
        weights: tuple[Tensor, ...] = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        if self.in_proj_weight is not None:
            weights = self.in_proj_weight.chunk(3)
        return weights, (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)


def _joined(attn_mask: Tensor | None, padding: Tensor | None, like: Tensor) -> Tensor | None:
    """Return what is added to the scores, [batch or 1, 1, queries or 1, keys]."""
    if attn_mask is not None and attn_mask.dim() != 2:
        raise RuntimeError(
            "attn_mask must be [queries, keys]: one for each head is for the heads that there were"
        )
    given = [
        torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, float("-inf"))
        if mask.dtype == torch.bool
        else mask
        for mask in (
            None if attn_mask is None else attn_mask[None, None],
            None if padding is None else padding.view(-1, 1, 1, padding.shape[-1]),
        )
        if mask is not None
    ]
    return sum(given[1:], start=given[0]) if given else None
