"""Several processes, on one machine or many, that work on one run: data parallel over MPI.

`launch` finds out whether this process is one of several; `group` is what they are and how they talk; `split` says
who computes which rows, `ownership` who owns which part of the gradients; `exchange` sums gradients, `courier` while
the backward pass goes on; `alive` notices who is gone; `team` puts it together for the training loop.
"""
