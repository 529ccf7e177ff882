"""Low-rank adapters in PEFT's layout.

`config` says what one is, `files` reads and writes them, `merge` adds one to a model's weights.
"""
