"""What tiktoken checks of itself, as data: texts, settings, and the ids or properties that must come out.

From the tests of openai/tiktoken (`tests/test_encoding.py`, `test_offsets.py`, `test_pickle.py`, `test_misc.py`), MIT
licence, Copyright (c) 2022 OpenAI, Shantanu Jain. Inputs and expected values are theirs, the code that runs them ours.
"""

from __future__ import annotations

END, PREFIX, MIDDLE = "<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>"

# Vocabulary, text, its ids; special tokens are not looked for.
IDS = [
    ("gpt2", "hello world", [31373, 995]),
    ("r50k", "hello world", [31373, 995]),
    ("cl100k", "hello world", [15339, 1917]),
    ("r50k", "", []),
    ("cl100k", " \x850", [220, 126, 227, 15]),
    # How a split decides: letters after an apostrophe, white space at the end of a line.
    ("cl100k", "rer", [38149]),
    ("cl100k", "'rer", [2351, 81]),
    ("cl100k", "today\n ", [31213, 198, 220]),
    ("cl100k", "today\n \n", [31213, 27907]),
    ("cl100k", "today\n  \n", [31213, 14211]),
    # Two halves of a character that Python keeps apart are that character.
    ("cl100k", "👍", [9468, 239, 235]),
    ("cl100k", "\ud83d\udc4d", [9468, 239, 235]),
]

# GPT-2's ids of one zero, two zeros, and so on.
ZEROS = [
    [15],
    [405],
    [830],
    [2388],
    [20483],
    [10535],
    [24598],
    [8269],
    [10535, 830],
    [8269, 405],
    [8269, 830],
    [8269, 2388],
    [8269, 20483],
    [8269, 10535],
    [8269, 24598],
    [25645],
    [8269, 10535, 830],
]
IDS += [("gpt2", "0" * count, ids) for count, ids in enumerate(ZEROS, 1)]

# The same with special tokens allowed.
IDS_WITH_SPECIAL = [
    ("gpt2", f"hello {END}", [31373, 220, 50256]),
    ("cl100k", f"hello {END}", [15339, 220, 100257]),
]

# A text that a lone half of a character is taken for.
LONE_SURROGATE = ("cl100k", "\ud83d", "\ufffd")

# Texts that come back as they were, of each vocabulary.
ROUNDTRIPS = [
    "hello",
    "hello ",
    "hello  ",
    " hello",
    " hello ",
    " hello  ",
    "hello world",
    "请考试我的软件！12345",
]

# What is repeated ten thousand times, alone, behind a space, and that before a line end.
REPEATED, TIMES = ["^", "0", "a", "'s", " ", "\n"], 10_000

# A vocabulary and a character a million times: no more is asked than an answer.
LARGE = ("o200k", "x", 1_000_000)

# cl100k: text, allowed_special, disallowed_special, the special tokens among the ids; None: refused.
ONE, TWO = f"{END} hello {PREFIX}", f"{END} hello {PREFIX} there {MIDDLE}"
SPECIAL = [
    (ONE, (), (), set()),
    (ONE, (), "all", None),
    (ONE, (), {END}, None),
    (ONE, (), {PREFIX}, None),
    (TWO, (), (), set()),
    (TWO, "all", (), {END, PREFIX, MIDDLE}),
    (TWO, "all", "all", {END, PREFIX, MIDDLE}),
    (TWO, {PREFIX}, (), {PREFIX}),
    (TWO, {END}, (), {END}),
    (TWO, {MIDDLE}, (), {MIDDLE}),
]

BATCHES = [["hello world"], ["hello world", "goodbye world"]]

# cl100k: text, and the character of it with which each token begins.
OFFSETS = [
    ("", []),
    ("hello world", [0, 5]),
    (f"hello world{END} green cow", [0, 5, 11, 24, 30]),
    ("我非常渴望与人工智能一起工作", [0, 1, 2, 3, 3, 4, 4, 5, 6, 7, 8, 8, 9, 10, 11, 12, 13]),
    # Tokens that begin or end inside of characters of three bytes.
    ("நடிகர் சூர்யா", [0, 0, 1, 1, 2, 3, 4, 4, 5, 6, 7, 8, 8, 9, 9, 10, 11, 12, 12]),
    (" Ġ除", [0, 1]),
]

# A vocabulary with a special token of one's own, pickled.
PICKLED = ("r50k", {"<|pickle|>": 100_000}, "hello world")

# Bytes that are no text by themselves, and the id that stands for them.
PARTIAL = ("cl100k", b" \xec\x8b\xa4\xed", 62085)

# Checks of theirs that are none of ours, and why.
LEFT_OUT = {
    "encoding_for_model": "names of models of OpenAI are no business of a tokenizer; a vocabulary is named by its file",
    "p50k_base, p50k_edit, o200k_harmony": "Tokenizer.load knows p50k's special tokens, its file is not in ../shared",
    "blobfile is not imported, the cache is the user's own": "nothing is fetched, so nothing is cached",
    "_encode_bytes": "text is str; bytes that are not UTF-8 are refused or replaced when a file is read",
    "KeyError for an id beyond the vocabulary": "InvalidValueError (a ValueError), which names position and range",
    "UnicodeDecodeError for tokens that are no text": 'decode(errors="strict") raises TokenizerError (a ValueError)',
}
