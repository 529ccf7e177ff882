"""The model: what it is made of (`config`, `presets`), its weights and calls (`gpt`), others' words for it (`hugging_face`)."""
