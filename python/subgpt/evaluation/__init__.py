"""How good a model is: losses (`measure`, `evaluate`), answers (`probes`), what comes next (`next_tokens`)."""
