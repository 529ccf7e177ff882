"""nanoGPT's model in PyTorch, with subgpt's weights: the peer of the training bench."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from subgpt import GPT


class Peer(nn.Module):
    """The same decoder as a subgpt model, weights copied, linear weights kept as (in, out)."""

    def __init__(self, model: GPT):
        super().__init__()
        self.config = model.config
        self.tensors = nn.ParameterDict(
            {
                name.replace(".", "/"): nn.Parameter(torch.from_numpy(x))
                for name, x in model.state_dict().items()
            }
        )

    def weight(self, name: str) -> torch.Tensor:
        return self.tensors[f"transformer.{name}".replace(".", "/")]

    def linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, self.weight(f"{name}.weight").T, self.weight(f"{name}.bias"))

    def norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        weight, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return F.layer_norm(x, weight.shape, weight, bias, self.config.norm_eps)

    def forward(self, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        b, t = ids.shape
        h, c = self.config.n_head, self.config.n_embd
        approximate = "tanh" if self.config.activation == "gelu_new" else "none"
        x = self.weight("wte.weight")[ids] + self.weight("wpe.weight")[:t]
        for layer in range(self.config.n_layer):
            name = f"h.{layer}"
            qkv = self.linear(self.norm(x, f"{name}.ln_1"), f"{name}.attn.c_attn")
            q, k, v = (part.view(b, t, h, c // h).transpose(1, 2) for part in qkv.split(c, dim=2))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1 / math.sqrt(c // h))
            x = x + self.linear(y.transpose(1, 2).reshape(b, t, c), f"{name}.attn.c_proj")
            inner = F.gelu(
                self.linear(self.norm(x, f"{name}.ln_2"), f"{name}.mlp.c_fc"), approximate=approximate
            )
            x = x + self.linear(inner, f"{name}.mlp.c_proj")
        logits = self.norm(x, "ln_f") @ self.weight("wte.weight").T
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def optimizer(self, learning_rate: float) -> torch.optim.Optimizer:
        matrices = [p for p in self.parameters() if p.ndim >= 2]
        vectors = [p for p in self.parameters() if p.ndim < 2]
        groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.99), eps=1e-8, fused=True)
