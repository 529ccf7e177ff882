"""Models in GGUF files, for llama.cpp.

`model` writes and reads them, with what a file says of a model (`architectures`) and of its tensors
(`tensors`). Tokenizers are in `subgpt.tokenizer.gguf`.
"""
