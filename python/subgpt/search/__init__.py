"""Looking for settings: the learning rate in one short run (`lr_find`), any of them in many (`sweep`).

In reading order: `rates` (what a range test saw, and what it recommends), `lr_find` (the test), `lr_plot` (its
picture); `space` (axes, and the trials that follow), `base` (what trials share), `plan` (a sweep's directory),
`places` (what trials read, and where they find it), `outcomes`, `worker` (one trial, in a process of its own), `pool`
(those processes), `cluster_pool` (tasks of a cluster in their place), `sweep` (the verb), `results` (what it leaves).
"""
