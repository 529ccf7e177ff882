"""How good a model is: `measure` (a loss over batches), `evaluate` (the verb), `probes` (what comes next)."""
