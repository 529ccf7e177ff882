"""The optimizer that settings name."""

from subgpt.model.gpt import GPT
from subgpt.training.config import TrainConfig
from subgpt.training.optimizers import SGD, AdamW, Lion, Muon, Optimizer


def own_rate(optimizer: Optimizer, config: TrainConfig, rate: float) -> float:
    """Give what `Optimizer.step` takes where the run's rate is `rate`: Muon's is another, in the same proportion."""
    return rate * (optimizer.learning_rate / config.learning_rate)


def make_optimizer(model: GPT, config: TrainConfig) -> Optimizer:
    """Make the optimizer that `config` names, for `model`."""
    rate, decay = config.learning_rate, config.weight_decay
    betas = (config.adam_beta1, config.adam_beta2)
    match config.optimizer:
        case "sgd":
            return SGD(model, rate, momentum=config.momentum, weight_decay=decay)
        case "lion":
            return Lion(model, rate, betas=betas, weight_decay=decay)
        case "muon":
            return Muon(
                model,
                config.muon_rate,
                adam_learning_rate=rate,
                momentum=config.muon_momentum,
                weight_decay=decay,
                adjust_lr=config.muon_adjust_lr,
                betas=betas,
                eps=config.adam_epsilon,
            )
        case "adamw":
            return AdamW(model, rate, betas=betas, eps=config.adam_epsilon, weight_decay=decay)
