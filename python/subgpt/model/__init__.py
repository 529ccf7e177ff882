"""The model: its shape (`config`, `presets`, `hugging_face`), its weights and calls (`gpt`)."""
