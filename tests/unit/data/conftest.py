import numpy as np
import pytest


class CharTokenizer:
    """Ids are code points in a vocabulary of 1000, with an optional end-of-text id of 999."""

    def __init__(self, eot=True):
        self.eot_id = 999 if eot else None
        self.vocab_size = 1000
        self.template: tuple[list[int], list[int]] = ([], [])

    def encode_ordinary(self, text):
        return np.array([ord(c) for c in text], dtype=np.uint32)

    def encode_batch(self, texts, **rules):
        rows = [self.encode_ordinary(text) for text in texts]
        offsets = np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(np.uint64)
        return np.concatenate([*rows, np.empty(0, np.uint32)]), offsets

    def decode(self, ids):
        return "".join("<|endoftext|>" if i == self.eot_id else chr(i) for i in ids.tolist())

    def decode_bytes(self, ids):
        return self.decode(ids).encode("utf-8")


@pytest.fixture
def tok():
    return CharTokenizer()


@pytest.fixture
def tok_without_eot():
    return CharTokenizer(eot=False)
