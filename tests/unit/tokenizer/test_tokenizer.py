"""Encoding, decoding and the vocabulary, at all levels."""

import base64
import copy
import json
import pickle
from itertools import pairwise

import numpy as np
import pytest

from subgpt.data import read_shard
from subgpt.errors import DataError, DtypeError, InvalidValueError, MissingFileError, TokenizerError
from subgpt.tokenizer import Tokenizer

TEXT = "the cat sat on the mat. THE CAT'S hat — naïve 中文 😀!\n" * 5
END = "<|endoftext|>"


@pytest.fixture(params=["char", "word", "subword"], scope="module")
def tok(request):
    return Tokenizer.train([TEXT], level=request.param, vocab_size=300)


@pytest.fixture(scope="module")
def sub():
    return Tokenizer.train([TEXT], vocab_size=300, special_tokens=(END, "<|a|>", "<|a|><b>"))


def test_round_trip_and_types(tok):
    ids = tok.encode(TEXT)
    assert (ids.dtype, ids.ndim) == (np.uint32, 1)
    assert tok.decode(ids) == TEXT
    assert tok.decode_bytes(ids) == TEXT.encode()
    assert "".join(tok.tokens("the cat")) == "the cat"
    assert (tok.encode("") == np.zeros(0)).all()
    assert tok.decode([]) == ""
    assert len(tok) == tok.vocab_size


def test_decode_takes_any_integers(tok):
    ids = tok.encode("the cat")
    for same in (
        ids,
        ids.tolist(),
        tuple(ids.tolist()),
        ids.astype(np.int64),
        ids.astype(np.uint16),
        ids[::1],
    ):
        assert tok.decode(same) == "the cat"
    assert tok.decode(np.repeat(ids, 2)[::2]) == "the cat"
    for bad in (ids.astype(np.float32), [1.5], ids > 0, "abc", None, [None]):
        with pytest.raises(DtypeError):
            tok.decode(bad)
    with pytest.raises(ValueError, match="one dimension"):
        tok.decode(ids.reshape(1, -1))


def test_ids_beyond_the_vocabulary_are_named(tok):
    for bad in (tok.vocab_size, -1, 2**32, 2**32 - 1, -(2**63)):
        with pytest.raises(InvalidValueError, match=str(bad)):
            tok.decode([0, bad])
        with pytest.raises(InvalidValueError, match=str(bad)):
            tok.id_to_token(bad)


def test_every_id_decodes_and_has_a_name_that_leads_back(tok):
    for i in range(tok.vocab_size):
        assert isinstance(tok.decode([i]), str)
        assert tok.token_to_id(tok.id_to_token(i)) == i
        assert tok.id_to_token(np.int64(i)) == tok.id_to_token(i)
    assert tok.token_to_id("no such entry") is None
    assert tok.token_to_id("\ud800") is None
    for bad in (1.0, "1", True, None):
        with pytest.raises(DtypeError):
            tok.id_to_token(bad)
    with pytest.raises(DtypeError):
        tok.token_to_id(3)


def test_tokens_show_bytes_where_there_is_no_character():
    tok = Tokenizer.train(["x"], vocab_size=257)
    assert tok.tokens("aé") == ["a", "<0xC3>", "<0xA9>"]
    assert tok.token_to_id("<0xC3>") == 0xC3


def test_strict_decoding_names_the_byte():
    tok = Tokenizer.train(["x"], vocab_size=257)
    ids = tok.encode("aé")
    assert tok.decode(ids[:2]) == "a\ufffd"
    assert tok.decode(ids[:2], errors="ignore") == "a"
    with pytest.raises(TokenizerError, match="byte 1 of the 2"):
        tok.decode(ids[:2], errors="strict")
    with pytest.raises(InvalidValueError, match="errors"):
        tok.decode(ids, errors="skip")


def test_special_tokens_are_an_error_unless_allowed(tok):
    text = f"the{END}cat"
    with pytest.raises(TokenizerError, match=r"<\|endoftext\|>.*allowed_special.*disallowed_special"):
        tok.encode(text)
    with pytest.raises(TokenizerError):
        tok.encode_batch(["fine", text])
    allowed = tok.encode(text, allowed_special={END})
    assert (allowed == tok.eot_id).sum() == 1
    assert (allowed == tok.encode(text, allowed_special="all")).all()
    assert tok.decode(allowed) == text
    ordinary = tok.encode(text, disallowed_special=())
    assert tok.eot_id not in ordinary
    assert (ordinary == tok.encode_ordinary(text)).all()


def test_tiktokens_rules_for_several_special_tokens(sub):
    a, ab = sub.special_tokens["<|a|>"], sub.special_tokens["<|a|><b>"]
    assert sub.encode("<|a|><b><|a|>", allowed_special="all").tolist() == [ab, a]
    with pytest.raises(TokenizerError, match=r"<\|a\|>"):
        sub.encode("x<|a|>", allowed_special={END})
    only = sub.encode(f"<|a|>{END}", allowed_special={END}, disallowed_special=())
    assert only[-1] == sub.eot_id
    assert a not in only
    with pytest.raises(TokenizerError, match="cat"):
        sub.encode("a cat", disallowed_special=["cat"])
    with pytest.raises(DtypeError):
        sub.encode("a", allowed_special="<|a|>")


def test_unknown_text_is_unk_or_an_error():
    for level, text in (("char", "cat?z"), ("word", "cat dog")):
        tok = Tokenizer.train([TEXT], level=level)
        assert tok.unk_id in tok.encode(text)
        plain = json.loads(tok.to_json())
        normalizing = Tokenizer.from_json(json.dumps({**plain, "normalizer": {"type": "NFC"}}))
        # Composing something keeps the normalizer from being passed over.
        for tokenizer, asked in ((tok, text), (normalizing, f"{text} e\u0301")):
            calls = (tokenizer.encode, tokenizer.encode_with_offsets, tokenizer.count)
            for call in (*calls, lambda t, tok=tokenizer, **options: tok.truncate(t, 9, **options)):
                call(asked)
                with pytest.raises(TokenizerError, match=r"byte 4.*not in the vocabulary|byte 3.*not in"):
                    call(asked, errors="strict")
    with pytest.raises(InvalidValueError, match="errors"):
        tok.encode("x", errors="ignore")


def test_a_space_put_before_a_text_is_not_counted_in_errors():
    parsed = json.loads(Tokenizer.train([TEXT], vocab_size=300, pattern="gpt2").to_json())
    parsed["pre_tokenizer"]["add_prefix_space"] = True
    vocab = parsed["model"]["vocab"]
    del vocab["z"]
    tok = Tokenizer.from_json(json.dumps(parsed))
    for call in (tok.encode, tok.encode_with_offsets, tok.count):
        with pytest.raises(TokenizerError, match="byte 2:"):
            call("a z", errors="strict")


def test_lone_surrogates_become_replacement_characters_or_an_error(sub):
    assert sub.decode(sub.encode("a\ud800b")) == "a\ufffdb"
    assert sub.decode(sub.encode("\ud83d\ude00")) == "😀"
    with pytest.raises(TokenizerError, match="surrogate"):
        sub.encode("a\ud800b", errors="strict")


def test_only_str_is_text(tok):
    for bad in (b"bytes", None, 3, ["list"], np.str_):
        with pytest.raises(DtypeError, match="str"):
            tok.encode(bad)
    for bad in ("text", b"text", None, 3):
        with pytest.raises(DtypeError, match="texts"):
            tok.encode_batch(bad)
    with pytest.raises(DtypeError, match=r"texts\[1\]"):
        tok.encode_batch(["a", b"b"])
    assert tok.decode(tok.encode(np.str_("the"))) == "the"


def test_batches_are_the_texts_one_after_the_other(tok):
    texts = ["the cat", "", "hat 中文", *[f"the {'cat' * (i % 7)}" for i in range(500)]]
    ids, offsets = tok.encode_batch(iter(texts))
    assert (ids.dtype, offsets.dtype, len(offsets)) == (np.uint32, np.uint64, len(texts) + 1)
    assert offsets[0] == 0
    for text, (start, end) in zip(texts, pairwise(offsets), strict=True):
        assert (ids[int(start) : int(end)] == tok.encode(text)).all()
    empty, zero = tok.encode_batch([])
    assert (len(empty), zero.tolist()) == (0, [0])


def test_a_long_text_is_the_same_on_one_thread_and_many(tok, threads):
    import subgpt

    text = f"{TEXT}{END} the cat " * 2000
    found = []
    for n in (1, 2, 5):
        subgpt.set_num_threads(n)
        found.append(tok.encode(text, allowed_special="all"))
    assert all((ids == found[0]).all() for ids in found)
    parts = np.concatenate([tok.encode(p, allowed_special="all") for p in [f"{TEXT}{END} the cat "] * 2000])
    assert tok.decode(parts) == tok.decode(found[0]) == text


def test_streams_hold_incomplete_characters():
    tok = Tokenizer.train(["x"], vocab_size=257)
    stream = tok.decode_stream()
    ids = tok.encode("né 😀").tolist()
    got = [stream.push(i) for i in ids]
    assert "".join(got) + stream.flush() == "né 😀"
    assert all("\ufffd" not in piece for piece in got)
    stream.push(0xF0)
    assert stream.push(0x41) == "\ufffdA"
    stream.push(0xE2)
    assert stream.flush() == "\ufffd"
    assert stream.flush() == ""
    with pytest.raises(InvalidValueError):
        stream.push(257)


def test_equality_copies_and_pickles(tok):
    same = pickle.loads(pickle.dumps(tok))
    assert same == tok
    assert hash(same) == hash(tok)
    assert same.encode(TEXT).tolist() == tok.encode(TEXT).tolist()
    assert copy.copy(tok) == copy.deepcopy(tok) == tok == Tokenizer.from_json(tok.to_json())
    other = Tokenizer.train([TEXT + "zebra"], level=tok.level, vocab_size=301)
    assert other != tok
    assert tok != "tok"
    assert hash(other) != hash(tok)
    assert len(tok.fingerprint) == 64


def test_repr_says_what_it_is(sub, tok):
    assert repr(sub) == "<Tokenizer level='subword', vocab_size=300, pattern='gpt4'>"
    if tok.level != "subword":
        assert repr(tok) == f"<Tokenizer level='{tok.level}', vocab_size={tok.vocab_size}>"


def test_entries_are_found_by_what_is_shown_of_them(tok):
    shown = [tok.id_to_token(id) for id in range(tok.vocab_size)]
    assert [tok.token_to_id(entry) for entry in shown] == list(range(tok.vocab_size))
    assert tok.token_to_id("no such entry") is None
    assert tok.token_to_id("\ud800") is None
    with pytest.raises(DtypeError, match=r"^token must be str, not int$"):
        tok.token_to_id(3)
    for id in (-1, tok.vocab_size):
        with pytest.raises(
            InvalidValueError, match=rf"^id is {id}; it must be between 0 and {tok.vocab_size - 1}$"
        ):
            tok.id_to_token(id)
    with pytest.raises(DtypeError, match=r"^id must be int, not str$"):
        tok.id_to_token("a")


def test_entries_of_a_text_follow_the_rules_for_special_tokens(sub):
    assert sub.tokens(f"a{END}", allowed_special="all") == ["a", END]
    assert "".join(sub.tokens(f"a{END}", disallowed_special=())) == f"a{END}"
    assert END not in sub.tokens(f"a{END}", disallowed_special=())
    with pytest.raises(TokenizerError, match="special token"):
        sub.tokens(f"a{END}")


def test_one_is_made_by_name_only():
    with pytest.raises(
        TypeError, match=r"^make a Tokenizer with Tokenizer\.train, .* or Tokenizer\.from_json$"
    ):
        Tokenizer()


def test_arguments_of_a_wrong_type_are_named(sub, tmp_path):
    for call, said in [
        (lambda: Tokenizer.load(tmp_path, pattern=3), "pattern must be str, not int"),
        (lambda: Tokenizer.load(3), "path must be str or a path, not int"),
        (lambda: Tokenizer.from_json(3), "json must be str, not int"),
        (lambda: sub.save(tmp_path / "x", format=3), "format must be str, not int"),
        (lambda: sub.decode([0], errors=3), "errors must be str, not int"),
        (lambda: sub.encode_batch(3), "texts must be an iterable of str, not int"),
        (lambda: sub.encode("a", errors=3), "errors must be str, not int"),
        (
            lambda: sub.encode("a", allowed_special=3),
            "allowed_special must be an iterable of str, not int (3)",
        ),
        (
            lambda: sub.encode("a", disallowed_special="a"),
            "disallowed_special must be an iterable of str, not str ('a')",
        ),
        (lambda: sub.encode("a", allowed_special=["a", 3]), "allowed_special[1] must be str, not int"),
    ]:
        with pytest.raises(DtypeError) as caught:
            call()
        assert str(caught.value) == said
    with pytest.raises(TokenizerError) as caught:
        Tokenizer.from_json("{\ud800}")
    assert str(caught.value) == "json: contains a lone surrogate, which is no character"
    with pytest.raises(TokenizerError, match="surrogate"):
        sub.encode_batch(["a", "\ud800"], errors="strict")


def test_many_threads_may_share_one(tok):
    from concurrent.futures import ThreadPoolExecutor

    expected = tok.encode(TEXT).tolist()
    with ThreadPoolExecutor(8) as pool:
        assert all(ids.tolist() == expected for ids in pool.map(tok.encode, [TEXT] * 64))


@pytest.mark.parametrize("level", ["char", "word", "subword"])
def test_offsets_are_the_parts_of_the_text(level):
    text = "naïve 中文 text,\r\n and 😀 more"
    tok = Tokenizer.train([text * 3], level=level, vocab_size=None if level == "char" else 270)
    ids, in_bytes, in_chars = tok.encode_with_offsets(text)
    assert ids.tolist() == tok.encode(text).tolist()
    data = text.encode()
    assert in_bytes[0, 0] == 0
    assert in_bytes[-1, 1] == len(data)
    assert (in_bytes[1:, 0] == in_bytes[:-1, 1]).all()
    for id, (start, end), (first, last) in zip(ids, in_bytes.tolist(), in_chars.tolist(), strict=True):
        if int(id) != tok.unk_id:
            assert tok.decode_bytes([id]) == data[start:end]
        # The characters that the token has a byte of, and no others.
        assert len(text[:first].encode()) <= start
        assert len(text[: first + 1].encode()) > start
        assert len(text[: last - 1].encode()) < end <= len(text[:last].encode())


def test_offsets_with_special_tokens_and_nothing():
    tok = Tokenizer.train(["abc"], vocab_size=257)
    located = tok.encode_with_offsets("é<|endoftext|>b", allowed_special="all")
    assert located.bytes.tolist() == [[0, 1], [1, 2], [2, 15], [15, 16]]
    assert located.chars.tolist() == [[0, 1], [0, 1], [1, 14], [14, 15]]
    empty = tok.encode_with_offsets("")
    assert (empty.ids.shape, empty.bytes.shape, empty.chars.shape) == ((0,), (0, 2), (0, 2))


def test_count_and_truncate():
    tok = Tokenizer.train(["some text to learn from"], vocab_size=270)
    text = "some text to learn from, naïve 😀" * 50
    ids = tok.encode(text)
    assert tok.count(text) == len(ids)
    assert tok.truncate(text, len(ids)) == text
    for most in (0, 1, 5, 40, len(ids) - 1):
        cut = tok.truncate(text, most)
        assert text.startswith(cut)
        assert tok.count(cut) <= most
        assert len(cut.encode()) > len(tok.decode_bytes(ids[:most])) - 4
    assert tok.truncate("a<|endoftext|>b", 2, allowed_special="all") == "a<|endoftext|>"
    with pytest.raises(TokenizerError, match="special token"):
        tok.truncate("a" * 1000 + "<|endoftext|>", 2)
    with pytest.raises(InvalidValueError, match=r"^max_tokens is -1; it must be between 0"):
        tok.truncate("a", -1)


def test_a_truncated_text_is_the_beginning_of_the_text():
    words = Tokenizer.train(["one two"], level="word")
    assert words.truncate("one three two", 3) == "one three"
    letters = Tokenizer.train(["unk"], level="char")
    assert [letters.truncate("<unk>x", most, disallowed_special=()) for most in (1, 2, 5)] == [
        "<",
        "<u",
        "<unk>",
    ]
    parsed = json.loads(Tokenizer.train(["n\u00e9 nai"], vocab_size=260).to_json())
    composed, apart = "n\u00e9 e", "ne\u0301 e"
    for form, text, cuts in (
        ("NFC", apart, ["", "n", "ne\u0301", "ne\u0301 "]),
        ("NFD", composed, ["", "n", "n", "n", "n\u00e9", "n\u00e9 "]),
    ):
        tok = Tokenizer.from_json(json.dumps({**parsed, "normalizer": {"type": form}}))
        assert [tok.truncate(text, most) for most in range(tok.count(text))] == cuts


def test_a_text_of_as_many_ids_is_given_as_it_is():
    """Also where what its ids decode to is something else."""
    lower = json.loads(Tokenizer.train(["some text"], vocab_size=262).to_json())
    tok = Tokenizer.from_json(json.dumps({**lower, "normalizer": {"type": "NFD"}}))
    text = "n\u00e9"
    assert tok.truncate(text, tok.count(text)) == text
    parts = Tokenizer.train(["x"], vocab_size=257)
    assert parts.truncate("n\U0001f600", 5) == "n\U0001f600"
    assert parts.truncate("n\U0001f600m", 3) == "n"


def test_a_truncated_text_is_not_encoded_to_its_end():
    tok = Tokenizer.train(["some text"], vocab_size=260, special_tokens=())
    assert tok.truncate("some text " * 1_000_000, 3) == tok.decode(tok.encode("some text some text")[:3])


@pytest.mark.parametrize(("end", "dtype"), [(256, np.uint16), (66_000, np.uint32)])
def test_files_become_shards(tmp_path, end, dtype):
    text = "a wörd, and\n\nanother one 123 <|endoftext|>" * 500
    (tmp_path / "text.txt").write_text(text)
    ranks = "".join(f"{base64.b64encode(bytes([byte])).decode()} {byte}\n" for byte in range(256))
    (tmp_path / "bytes.tiktoken").write_text(ranks)
    tok = Tokenizer.load(tmp_path / "bytes.tiktoken", pattern="gpt2", special_tokens={END: end})
    shards = tok.encode_file(
        tmp_path / "text.txt", tmp_path / "out", shard_tokens=1000, allowed_special="all"
    )
    parts = [read_shard(shard, fingerprint=tok.fingerprint) for shard in shards]
    assert all(part.dtype == dtype for part in parts)
    ids = np.concatenate(parts)
    assert ids.tolist() == tok.encode(text, allowed_special="all").tolist()
    assert [shard.name for shard in shards][:2] == ["00000.bin", "00001.bin"]


def test_a_file_is_counted_as_it_is_encoded_and_says_how_far_it_is(tmp_path):
    text = "a wörd, and another one <|endoftext|>" * 3
    (tmp_path / "text.txt").write_text(text)
    tok = Tokenizer.train([text], vocab_size=270)
    size, heard = len(text.encode()), {"encode_file": [], "count_file": []}
    shards = tok.encode_file(
        tmp_path / "text.txt",
        str(tmp_path / "one"),
        shard_tokens=1,
        allowed_special="all",
        progress=lambda *said: heard["encode_file"].append(said),
    )
    counted = tok.count_file(
        str(tmp_path / "text.txt"),
        allowed_special="all",
        progress=lambda *said: heard["count_file"].append(said),
    )
    ids = tok.encode(text, allowed_special="all")
    assert counted == len(ids) == len(shards)
    assert [int(read_shard(shard)[0]) for shard in shards] == ids.tolist()
    for said in heard.values():
        assert said[-1] == (size, size)
    ordinary = tok.count_file(tmp_path / "text.txt", disallowed_special=())
    assert ordinary == tok.count(text, disallowed_special=()) > counted
    with pytest.raises(TokenizerError, match="special token"):
        tok.count_file(tmp_path / "text.txt")
    (tmp_path / "bad.txt").write_bytes(b"ab\xff")
    with pytest.raises(DataError, match="offset 2"):
        tok.count_file(tmp_path / "bad.txt")
    assert tok.count_file(tmp_path / "bad.txt", errors="replace") == tok.count("ab\ufffd")
    with pytest.raises(InvalidValueError, match=r"^shard_tokens is 0; it must be between 1"):
        tok.encode_file(tmp_path / "text.txt", tmp_path / "none", shard_tokens=0)
    for call in (tok.count_file, lambda path: tok.encode_file(path, tmp_path)):
        with pytest.raises(DtypeError, match=r"^path must be str or a path, not int$"):
            call(3)


def test_damaged_shards_are_refused(tmp_path):
    (tmp_path / "text.txt").write_text("some text")
    tok = Tokenizer.train(["some text"], vocab_size=260)
    (shard,) = tok.encode_file(tmp_path / "text.txt", tmp_path)
    whole = shard.read_bytes()
    with pytest.raises(DataError, match="another tokenizer"):
        read_shard(shard, fingerprint=Tokenizer.train(["other"], vocab_size=260).fingerprint)
    for damaged, message in (
        (whole[:-1], "promises"),
        (whole + b"\0", "promises"),
        (b"x" + whole[1:], "no token shard"),
        (whole[:8] + b"\x09" + whole[9:], "version 9"),
        (b"", "no token shard"),
        (whole[:30], "promises"),
    ):
        shard.write_bytes(damaged)
        with pytest.raises(DataError, match=message):
            read_shard(shard)
    with pytest.raises(MissingFileError):
        read_shard(tmp_path / "missing.bin")
    (tmp_path / "bad.txt").write_bytes(b"ab\xff")
    with pytest.raises(DataError, match="offset 2"):
        tok.encode_file(tmp_path / "bad.txt", tmp_path)
    assert tok.encode_file(tmp_path / "bad.txt", tmp_path / "ok", errors="replace")
    (tmp_path / "special.txt").write_text("x<|endoftext|>")
    with pytest.raises(TokenizerError, match="special token"):
        tok.encode_file(tmp_path / "special.txt", tmp_path)


@pytest.mark.parametrize("errors", ["replace", "ignore", "strict"])
def test_decoding_policies_are_pythons(errors):
    tok = Tokenizer.train(["x"], vocab_size=257)
    for data in (b"abc", b"\xe2\x82", b"a\xf0\x9f\x98b", b"\xff\xc3\xa9", b"\xed\xa0\x80", b""):
        ids = np.frombuffer(data, np.uint8)
        try:
            expected = data.decode("utf-8", errors)
        except UnicodeDecodeError as error:
            with pytest.raises(TokenizerError, match=f"byte {error.start} of the {len(data)}"):
                tok.decode(ids, errors)
        else:
            assert tok.decode(ids, errors) == expected
