"""GGUF: models in one file for llama.cpp, written and read (`model`), with what the file says of a model
(`architectures`) and of its tensors (`tensors`). Tokenizers are in `subgpt.tokenizer.gguf`.
"""
