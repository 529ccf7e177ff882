"""Text out of a model: `config` (the options), `generate` (a whole text), `stream` (piece by piece).

`healing` mends the end of a prompt, `conversation` answers messages turn after turn, `chat` once.
"""
