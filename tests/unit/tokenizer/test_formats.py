"""One vocabulary in every format, read back by subgpt and by those whose formats they are."""

import json

import pytest

from subgpt import _core
from subgpt.errors import InvalidValueError, SubgptError, TokenizerError
from subgpt.tokenizer import Tokenizer, convert
from subgpt.tokenizer.convert import torture_texts

TEXT = (
    "It's the HTTPServer's naïve way: don't 'quote' 12345 times,\n\n  THEY'LL see 中文 and 😀!\r\n\tx += 1;//y\n"
    * 30
)
END = "<|endoftext|>"
QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@pytest.fixture(scope="module", params=["gpt2", "gpt4", "o200k", QWEN])
def tok(request):
    return Tokenizer.train([TEXT], vocab_size=500, pattern=request.param, special_tokens=(END, "<|a|>"))


@pytest.fixture(scope="module")
def texts(tok):
    return [*torture_texts(tok), TEXT]


def ids_of(tok, texts):
    return [tok.encode_ordinary(text).tolist() for text in texts]


@pytest.mark.parametrize("format", ["tokenizer.json", "tiktoken", "vocab-merges", "gguf"])
def test_every_format_gives_the_same_ids(tok, texts, format, tmp_path):
    written = convert(tok, tmp_path / "out", format=format)
    bare = format in ("tiktoken", "vocab-merges")
    options = {"pattern": tok.pattern, "special_tokens": tok.special_tokens} if bare else {}
    again = Tokenizer.load(written, **options)
    assert ids_of(again, texts) == ids_of(tok, texts)
    assert again.special_tokens == tok.special_tokens
    assert convert(again, tmp_path / "again", format="tokenizer.json")


def test_tokenizers_reads_what_is_written(tok, texts, tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    theirs = tokenizers.Tokenizer.from_file(str(convert(tok, tmp_path / "tokenizer.json")))
    theirs.encode_special_tokens = True
    assert [theirs.encode(text, add_special_tokens=False).ids for text in texts] == ids_of(tok, texts)
    convert(tok, tmp_path / "pair", format="vocab-merges")
    merges = str(tmp_path / "pair" / "merges.txt")
    model = tokenizers.models.BPE.from_file(str(tmp_path / "pair" / "vocab.json"), merges)
    bare = tokenizers.Tokenizer(model)
    parsed = json.loads(tok.to_json())
    bare.pre_tokenizer = tokenizers.Tokenizer.from_str(tok.to_json()).pre_tokenizer
    assert parsed["model"]["type"] == "BPE"
    assert [bare.encode(text, add_special_tokens=False).ids for text in texts] == ids_of(tok, texts)


def test_tiktoken_reads_what_is_written(tok, texts, tmp_path):
    tiktoken = pytest.importorskip("tiktoken")
    from tiktoken.load import load_tiktoken_bpe

    written = convert(tok, tmp_path / "ranks.tiktoken")
    named = {"gpt2": "gpt2", "gpt4": "gpt4", "o200k": "o200k"}
    regex = Tokenizer.train(["x"], pattern=named.get(tok.pattern, tok.pattern))
    split = json.loads(regex.to_json())["pre_tokenizer"]
    steps = split.get("pretokenizers", [split])
    pattern = next((step["pattern"]["Regex"] for step in steps if step["type"] == "Split"), None)
    gpt2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
    theirs = tiktoken.Encoding(
        "test",
        pat_str=pattern or gpt2,
        mergeable_ranks=load_tiktoken_bpe(str(written)),
        special_tokens=tok.special_tokens,
    )
    assert [theirs.encode_ordinary(text) for text in texts] == ids_of(tok, texts)


def test_gguf_holds_what_llama_cpp_reads(tok, tmp_path):
    gguf = pytest.importorskip("gguf")
    written = convert(tok, tmp_path / "tokenizer.gguf")
    fields = gguf.GGUFReader(written, "r").fields
    contents = {name: field.contents() for name, field in fields.items()}
    tokens, merges = contents["tokenizer.ggml.tokens"], contents["tokenizer.ggml.merges"]
    parsed = json.loads(tok.to_json())
    assert {token: id for id, token in enumerate(tokens)} == parsed["model"]["vocab"]
    assert [tuple(merge.split(" ")) for merge in merges] == [
        tuple(pair) for pair in parsed["model"]["merges"]
    ]
    assert contents["tokenizer.ggml.model"] == "gpt2"
    assert contents["tokenizer.ggml.eos_token_id"] == tok.eot_id
    assert [contents["tokenizer.ggml.token_type"][id] for id in tok.special_tokens.values()] == [3, 3]


def test_gguf_without_a_tokenizer_json_is_read_by_its_parts(tok, texts, tmp_path):
    gguf = pytest.importorskip("gguf")
    whole = gguf.GGUFReader(convert(tok, tmp_path / "whole.gguf"), "r").fields
    writer = gguf.GGUFWriter(tmp_path / "parts.gguf", "gpt2")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(whole["tokenizer.ggml.pre"].contents())
    writer.add_token_list(whole["tokenizer.ggml.tokens"].contents())
    writer.add_token_types(whole["tokenizer.ggml.token_type"].contents())
    writer.add_token_merges(whole["tokenizer.ggml.merges"].contents())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    parts = Tokenizer.load(tmp_path / "parts.gguf")
    # llama.cpp cuts white space at the very end as Llama 3 does.
    texts = [text for text in texts if not text[-1:].isspace()]
    assert ids_of(parts, texts) == ids_of(tok, texts)
    assert parts.special_tokens == tok.special_tokens


def parts_of(path, **changes):
    """Write a file again without its tokenizer.json, and with other entries or without some."""
    values, _ = _core.read_gguf(str(path))
    kinds = {"model": "str", "pre": "str", "tokens": "[str]", "token_type": "[i32]", "merges": "[str]"}
    kinds |= {"scores": "[f32]", "add_bos_token": "bool", "bos_token_id": "u32", "add_space_prefix": "bool"}
    found = {kind: values.get(f"tokenizer.ggml.{kind}") for kind in kinds} | changes
    entries = [
        (f"tokenizer.ggml.{key}", kinds[key], value) for key, value in found.items() if value is not None
    ]
    parts = path.with_name("parts.gguf")
    _core.write_gguf(str(parts), [("general.architecture", "str", "llama"), *entries])
    return Tokenizer.load(parts)


def test_a_gguf_file_says_what_texts_begin_with(tmp_path):
    begin = Tokenizer.train([TEXT], vocab_size=300, pattern="gpt4", special_tokens=(END, "<|begin|>"))
    id = begin.special_tokens["<|begin|>"]
    path = convert(begin, tmp_path / "whole.gguf")
    assert parts_of(path, add_bos_token=True, bos_token_id=id).template == ([id], [])
    assert parts_of(path, add_bos_token=False, bos_token_id=id).template == ([], [])
    # Llama 3's have no word about it; llama.cpp puts their beginning there by the name of their split.
    assert parts_of(path, add_bos_token=None, bos_token_id=id).template == ([id], [])
    assert parts_of(path, add_bos_token=None, bos_token_id=id, pre="qwen2").template == ([], [])
    assert parts_of(path, add_bos_token=None, bos_token_id=None).template == ([], [])
    with pytest.raises(TokenizerError, match=r"parts\.gguf: tokenizer\.ggml\.bos_token_id is 300, of 300"):
        parts_of(path, add_bos_token=True, bos_token_id=300)


def test_a_sentencepiece_gguf_file_says_what_texts_begin_with(shared, tmp_path):
    llama = Tokenizer.load(shared / "data" / "model" / "tok512.bin")
    path = convert(llama, tmp_path / "whole.gguf")
    for adds in (True, None):
        assert parts_of(path, add_bos_token=adds).template == ([1], [])
    for changes, before in (({"add_bos_token": False}, []), ({"bos_token_id": 2}, [2])):
        other = parts_of(path, **changes)
        assert other.template == (before, [])
        assert ids_of(other, [TEXT]) == ids_of(llama, [TEXT])


def test_what_a_format_cannot_hold_is_refused(tmp_path):
    words = Tokenizer.train([TEXT], level="word")
    for format in ("tiktoken", "vocab-merges", "gguf"):
        with pytest.raises(TokenizerError, match="level"):
            convert(words, tmp_path / "x", format=format)
    pieces = Tokenizer.train([TEXT], pattern=r"\w+")
    with pytest.raises(TokenizerError, match=r"llama\.cpp has no name"):
        convert(pieces, tmp_path / "x.gguf")
    with pytest.raises(InvalidValueError, match='format is "zip"'):
        words.save(tmp_path / "x", format="zip")
    # A token that no merges lead to.
    parsed = json.loads(Tokenizer.train(["ab ab"], vocab_size=257, special_tokens=()).to_json())
    parsed["model"]["vocab"]["abc"] = 257
    lost = Tokenizer.from_json(json.dumps(parsed))
    with pytest.raises(TokenizerError, match='do not lead to the token "abc"'):
        convert(lost, tmp_path / "x.tiktoken")


def test_nothing_is_written_when_other_ids_come_back(tmp_path):
    parsed = json.loads(Tokenizer.train([TEXT], vocab_size=300, pattern="gpt2").to_json())
    parsed["pre_tokenizer"]["add_prefix_space"] = True
    prefixed = Tokenizer.from_json(json.dumps(parsed))
    assert prefixed.encode("a").tolist() == prefixed.encode(" a").tolist()
    for format in ("tiktoken", "vocab-merges"):
        with pytest.raises(TokenizerError, match=r"space before a text.* tokenizer\.json"):
            convert(prefixed, tmp_path / "out", format=format)
    assert not (tmp_path / "out").exists()
    assert convert(prefixed, tmp_path / "out").exists()


@pytest.mark.parametrize("damage", [b"", b"GGUF", b"GGUF\x03\0\0\0" + b"\xff" * 40, b"\0" * 200])
def test_damaged_gguf_files_are_refused(tmp_path, damage):
    (tmp_path / "x.gguf").write_bytes(damage)
    with pytest.raises(SubgptError, match=r"x\.gguf"):
        Tokenizer.load(tmp_path / "x.gguf")
