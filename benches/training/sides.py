"""The two sides of a comparison, each a model with its optimizer behind the same two calls."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Job:
    """What a side is to train.

    side: "subgpt" or "torch". config: fields of subgpt's GPTConfig. folder: where the weights that both start from
        lie, and the batches. compiled, fused: the peer's `torch.compile` and fused AdamW. optimizer: a class of
        subgpt, for that side only. train: settings of a run that say what of the model is trained, for that side only,
        whose weights are then for no peer.
    """

    side: str
    config: dict[str, Any]
    dtype: str
    threads: int
    folder: str
    betas: tuple[float, float]
    weight_decay: float
    seed: int = 1
    compiled: bool = False
    fused: bool = False
    optimizer: str = "AdamW"
    train: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Side(Protocol):
    """One side."""

    params: int

    def step(self, ids: Array, targets: Array, rate: float) -> float: ...

    def loss(self, ids: Array, targets: Array) -> float: ...


class Subgpt:
    """Our side."""

    def __init__(self, job: Job):
        import subgpt

        subgpt.set_num_threads(job.threads)
        self.model = subgpt.GPT(subgpt.GPTConfig.from_dict(job.config), seed=job.seed, dtype=job.dtype)
        self.params = self.model.num_params()
        if job.train:
            from subgpt.training.start import prepare

            config = subgpt.TrainConfig(**job.train, dtype=job.dtype)
            prepare(self.model, config.resolved(self.model.config.block_size))
        options: dict[str, Any] = {}
        if job.optimizer == "AdamW":
            options = {"betas": job.betas, "weight_decay": job.weight_decay}
        self.optimizer = getattr(subgpt, job.optimizer)(self.model, 1.0, **options)

    def save(self, folder: Path) -> None:
        """Write the weights for the peer, a tensor at a time, so that no second copy of the model is made."""
        for name in self.model.native.tensor_names():
            np.save(folder / f"{name}.npy", self.model.native.tensor(name, "param"))

    def step(self, ids: Array, targets: Array, rate: float) -> float:
        loss = self.model.backward(ids, targets)
        self.model.clip_grad_norm(1.0)
        self.optimizer.step(rate)
        self.model.zero_grad()
        return loss

    def loss(self, ids: Array, targets: Array) -> float:
        return self.model.loss(ids, targets)


class Torch:
    """The peer's side: nanoGPT's training step in plain PyTorch."""

    def __init__(self, job: Job):
        import torch
        from torch_gpt import Peer

        torch.set_num_threads(job.threads)
        self.torch = torch
        self.peer = Peer(job.config, job.config["bias"])
        self.peer.load(Path(job.folder))
        self.params = sum(p.numel() for p in self.peer.parameters())
        self.optimizer = self.peer.adamw(1.0, job.betas, job.weight_decay, job.fused or None)
        self.forward = torch.compile(self.peer) if job.compiled else self.peer
        self.bfloat16 = job.dtype == "bfloat16"

    def step(self, ids: Array, targets: Array, rate: float) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self._loss(self.forward, ids, targets)
        loss.backward()
        self.torch.nn.utils.clip_grad_norm_(self.peer.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    def loss(self, ids: Array, targets: Array) -> float:
        with self.torch.no_grad():
            return float(self._loss(self.peer, ids, targets))

    def _loss(self, forward: Any, ids: Array, targets: Array) -> Any:
        x, y = self.torch.from_numpy(ids), self.torch.from_numpy(targets)
        with self.torch.autocast("cpu", dtype=self.torch.bfloat16, enabled=self.bfloat16):
            return forward(x, y)
