"""What minbpe checks of itself, as data: texts, special tokens, and the ids or properties that must come out.

From the tests of karpathy/minbpe (`tests/test_tokenizer.py`), MIT licence, Copyright (c) 2024 Andrej Karpathy. Short
inputs and expected ids are theirs; where they take a page of Wikipedia or a long file, there is a text of our own or of
../shared with the same signs in it. The code that runs them is ours.
"""

from __future__ import annotations

# Texts that come back as they were, and whose ids of GPT-4's vocabulary are tiktoken's.
TEXTS = ["", "?", "hello world!!!? (안녕하세요!) lol123 😉"]

# GPT-4's special tokens.
SPECIAL_TOKENS = {
    "<|endoftext|>": 100257,
    "<|fim_prefix|>": 100258,
    "<|fim_middle|>": 100259,
    "<|fim_suffix|>": 100260,
    "<|endofprompt|>": 100276,
}

# Text with every special token, at both ends, next to each other and next to line ends.
WITH_SPECIAL = (
    "<|endoftext|>The first page ends here.\n"
    "<|endoftext|>The second one, too.\n"
    "<|endoftext|><|fim_prefix|>A page with<|fim_suffix|> in it.<|fim_middle|> a hole\n"
    "<|endoftext|>The last one!!! 👋<|endofprompt|>"
)

# Byte-pair encoding's textbook example: three merges, the pairs aa (256), then ab or Za, then what is left of Zab.
TEXTBOOK, TEXTBOOK_IDS = "aaabdaaabac", [258, 100, 258, 97, 99]

# Text to learn 64 merges from and to save: names, phonetic signs, numbers, brackets, dashes.
TO_LEARN = (
    "<|endoftext|>The alpaca (/ælˈpækə/; Spanish: [alˈpaka]) is kept in herds that graze on the level heights of the "
    "Andes.\nA herd gives 2 to 4 kg (4–9 pounds) of wool a head, sorted into more than 50 colours.[1] Herds of 20 to "
    "1,500 heads graze together; llamas and alpacas, alpacas and llamas.[2]\n"
    "<|fim_prefix|>Whoever asks what the wool is for<|fim_suffix|> hears of hats, of blankets and of strings.[3]"
    "<|fim_middle|> in a village of the heights<|endofprompt|>"
)
MERGES = 64

# Checks of theirs that are ours in another shape, and why.
LEFT_OUT = {
    "register_special_tokens on a trained tokenizer": "a Tokenizer never changes: special tokens are named when it is "
    "trained, or when ranks are loaded",
    "GPT-4's numbers for the special tokens of 320 entries": "refused: a model has a row of weights for every number, "
    "and 99,937 of them would stand for nothing",
    "save writes NAME.model and NAME.vocab": "tokenizer.json, tiktoken's ranks and GPT-2's two files are written",
    "BasicTokenizer without a split": 'a regular expression that matches everything, pattern=r"[\\s\\S]+"',
}
