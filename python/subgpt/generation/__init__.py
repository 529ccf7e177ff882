"""Text out of a model: `config` (the options), `generate` (a whole text), `stream` (piece by piece)."""
