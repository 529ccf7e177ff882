"""Low-rank adapters in PEFT's layout.

`config` says what one is, `files` reads and writes them, `fit` tells whether one belongs to a model, `attach` puts one
over a model (to be trained or used), and `merge` adds one to a model's weights.
"""
