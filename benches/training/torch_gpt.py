"""nanoGPT's model in PyTorch: the peer of the training benches. It knows torch and NumPy, and nothing of subgpt.

Modules, shapes and order of operations are those of karpathy/nanoGPT's `model.py`: `nn.Linear` with weights
(out, in), `scaled_dot_product_attention(is_causal=True)`, exact `nn.GELU()`, LayerNorm with an optional bias,
the output projection tied to the token embedding, no padding of the vocabulary. One liberty is in the peer's
favour: the forward pass gives the loss alone, so that the logits can be freed before the backward pass ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

Shape = Mapping[str, int]


class LayerNorm(nn.Module):
    """LayerNorm whose bias can be left out."""

    def __init__(self, width: int, bias: bool):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-5)


class Attention(nn.Module):
    """Causal self-attention with one projection for queries, keys and values."""

    def __init__(self, shape: Shape, bias: bool):
        super().__init__()
        self.n_head, width = shape["n_head"], shape["n_embd"]
        self.c_attn = nn.Linear(width, 3 * width, bias=bias)
        self.c_proj = nn.Linear(width, width, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, t, c = x.shape
        q, k, v = (
            part.view(b, t, self.n_head, c // self.n_head).transpose(1, 2)
            for part in self.c_attn(x).split(c, dim=2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: torch.Tensor = self.c_proj(y.transpose(1, 2).contiguous().view(b, t, c))
        return out


class MLP(nn.Module):
    """Four times as wide inside, exact GELU."""

    def __init__(self, width: int, bias: bool):
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width, bias=bias)
        self.gelu = nn.GELU()
        self.c_proj = nn.Linear(4 * width, width, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.c_proj(self.gelu(self.c_fc(x)))
        return out


class Block(nn.Module):
    """Norm, attention, norm, MLP, each pair added to the stream."""

    def __init__(self, shape: Shape, bias: bool):
        super().__init__()
        self.ln_1 = LayerNorm(shape["n_embd"], bias)
        self.attn = Attention(shape, bias)
        self.ln_2 = LayerNorm(shape["n_embd"], bias)
        self.mlp = MLP(shape["n_embd"], bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.ln_1(x))
        out: torch.Tensor = x + self.mlp(self.ln_2(x))
        return out


class Transformer(nn.Module):
    """Embeddings, blocks and the last norm: (B, T) ids to (B, T, C)."""

    def __init__(self, shape: Shape, bias: bool):
        super().__init__()
        self.wte = nn.Embedding(shape["vocab_size"], shape["n_embd"])
        self.wpe = nn.Embedding(shape["block_size"], shape["n_embd"])
        self.h = nn.ModuleList(Block(shape, bias) for _ in range(shape["n_layer"]))
        self.ln_f = LayerNorm(shape["n_embd"], bias)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
        for block in self.h:
            x = block(x)
        out: torch.Tensor = self.ln_f(x)
        return out


class Peer(nn.Module):
    """The decoder and its loss; parameters have subgpt's names, linear weights are transposed."""

    def __init__(self, shape: Shape, bias: bool):
        super().__init__()
        self.transformer = Transformer(shape, bias)
        self.lm_head = nn.Linear(shape["n_embd"], shape["vocab_size"], bias=False)
        self.lm_head.weight = self.transformer.wte.weight

    def forward(self, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = self.lm_head(self.transformer(ids))
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1), ignore_index=-1)

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        """Take the weights from `folder`, one `.npy` for each of subgpt's tensors, one at a time."""
        for name, parameter in self.named_parameters():
            value = torch.from_numpy(np.load(folder / f"{name}.npy"))
            linear = ".c_" in name and value.ndim == 2
            parameter.copy_(value.T if linear else value)

    def adamw(
        self, learning_rate: float, betas: tuple[float, float], weight_decay: float, fused: bool | None
    ) -> torch.optim.AdamW:
        """Make nanoGPT's optimizer: tensors of two dimensions decay. `fused=None` is torch's own choice."""
        groups = [
            {"params": [p for p in self.parameters() if p.ndim >= 2], "weight_decay": weight_decay},
            {"params": [p for p in self.parameters() if p.ndim < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, fused=fused)
