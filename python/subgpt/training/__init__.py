"""Training, in reading order.

`config` (what can be set), `schedule` (the learning rate of a step), `optimizers`, `data` (what is learnt from),
`loop` (the updates), `guard` (losses that leap), `interrupt` (Ctrl-C), `callbacks` (who watches), `recorder`,
`metrics` and `plot` (what is written down), `run` (what comes back), `keeper` (what is kept), `start` and `resume`
(where a run begins), `runner` (all of it together), `pretrain` (the verb).
"""
