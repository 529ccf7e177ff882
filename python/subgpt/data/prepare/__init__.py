"""Text of any size to token shards, once, for any number of runs.

Reading order: `units` (how the work is cut) -> `reading`, `texts` (the documents of a unit) -> `stage` (their ids, in
parts on the disk) -> `pool` (by several processes) -> `merge`, `similar` (which stay, and their shards) -> `finish`
(the account of it), with `plan` (what a preparation is gone on with) and `manifest` (what is said of a finished one).
"""
