"""Training, in reading order: `config` (what can be set), `schedule` (the learning rate of a step), `optimizers`, `step`
(one update), `loop` (all of them), `callbacks` (who watches), `metrics` and `plot` (what is written down), `run` (what
comes back), `pretrain` (the verb).
"""
