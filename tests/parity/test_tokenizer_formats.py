"""Every component of a `tokenizer.json`: the ids, texts and offsets of Hugging Face `tokenizers`."""

from __future__ import annotations

import itertools
import json
import unicodedata
from functools import cache

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

from subgpt.tokenizer import Tokenizer

CORPUS = [
    "It's 1984 and the cat's   hat…\n\n naïve ﬁne Ångström é e\u0301 <extra> 中文 ①②",
    "the cat sat on the mat. The mat sat on the CAT! (really?) 12345 and 67",
    "  leading, and trailing  \t white\u3000space ▁ marks▁inside -- x--y",
    "def f(x):\n    return x_1 + 'ß' # Straße ÀÉÎ e\u0301\u0323 안녕 각",
] * 6

ATOMS = [
    *"aZéßſ中ㅎª19½٣ \n\r\t'!/_-’ǅʰ\u0301\u0903Ⅷ\u00a0\u0085\u3000\u200d\u200b\0▁Ġ",
    *[
        "  ",
        "   ",
        "\r\n",
        "\n\n",
        "'s",
        "'ll",
        "the",
        " the",
        "cat",
        "--",
        "ﬁ",
        "①",
        "각",
        "e\u0301\u0323",
        "Å",
    ],
    *["😀", "👨‍👩‍👧", "hello", "<extra>", " <extra> ", "<s>", " </s>", "word", "<unk>", "<0x0A>", "İ", "ΑΣ"],
]
BORDERS = st.lists(st.one_of(st.sampled_from(ATOMS), st.characters(codec="utf-8")), max_size=30).map("".join)
HARD = [
    "", " ", "  ", "▁", " ▁", "a", " a", "a ", "\n", "e\u0301", "\u0301", "é", "中", "\0",
    "<s>a</s>", "a <extra> b<extra>c", "  <extra>", "word<extra>word", "<EXTRA>", "ÀÉÎ ﬁ", "x" * 300, "the " * 50,
    "👨‍👩‍👧 zwj", "\t tab", "a\u3000b", "xx" + chr(0x1F600) + "é" * 3, "^_^ (hi) «hi» $5", "１２ Ⅷ½",
    "Ǆ ǅ ΑΣ ΑΣ. İi", "각각", "ſ", "-a--b-", "12ab34",
]  # fmt: skip


def trained(
    normalizer=None,
    pre_tokenizer=None,
    decoder=None,
    *,
    size=400,
    alphabet=(),
    bytes_too=False,
    added=(),
    specials=("<s>", "</s>", "<unk>"),
    unk=True,
    **options,
):
    """A tokenizer that `tokenizers` trained with these components."""
    theirs = tokenizers.Tokenizer(models.BPE(unk_token="<unk>" if unk else None, **options))
    for name, component in (
        ("normalizer", normalizer),
        ("pre_tokenizer", pre_tokenizer),
        ("decoder", decoder),
    ):
        if component is not None:
            setattr(theirs, name, component)
    names = [*specials, *((f"<0x{b:02X}>" for b in range(256)) if bytes_too else ())]
    trainer = trainers.BpeTrainer(
        vocab_size=size + len(names),
        show_progress=False,
        special_tokens=names,
        initial_alphabet=list(alphabet),
    )
    theirs.train_from_iterator(CORPUS, trainer)
    file = json.loads(theirs.to_str())
    # Byte tokens are ordinary entries, as in converted SentencePiece models.
    file["added_tokens"] = [t for t in file["added_tokens"] if not t["content"].startswith("<0x")]
    theirs = tokenizers.Tokenizer.from_str(json.dumps(file))
    theirs.add_tokens(list(added))
    return theirs


LEVEL = pre_tokenizers.ByteLevel.alphabet()


def byte_level(normalizer=None, before=(), *, prefix=False, regex=True, **options):
    """Byte-level BPE, with other pre-tokenizers before."""
    level = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=regex, trim_offsets=False)
    pre = pre_tokenizers.Sequence([*before, level]) if before else level
    return trained(normalizer, pre, decoders.ByteLevel(), alphabet=LEVEL, size=330, **options)


def llama(**options):
    """What Llama's converted tokenizer is made of."""
    return trained(
        normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
        None,
        decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        ),
        **{"bytes_too": True, "byte_fallback": True, "fuse_unk": True, **options},
    )


def metaspace(scheme="always", split=True, **options):
    """Metaspace on both sides."""
    return trained(
        None,
        pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme, split=split),
        decoders.Metaspace(replacement="▁", prepend_scheme=scheme, split=split),
        **options,
    )


def flagged(base=byte_level, **flags):
    """An added token with these flags."""
    return base(added=[AddedToken("<extra>", **flags), AddedToken("word", normalized=True, **flags)])


def spaces(component, **options):
    """A pre-tokenizer without a decoder."""
    return trained(None, component, **options)


SPLIT = pre_tokenizers.Split
CASES = {
    "byte-level": byte_level,
    "byte-level prefix": lambda: byte_level(prefix=True),
    "byte-level after digits": lambda: byte_level(before=[pre_tokenizers.Digits(individual_digits=True)]),
    "byte-level prefix after digits": lambda: byte_level(before=[pre_tokenizers.Digits()], prefix=True),
    "byte-level after punctuation": lambda: byte_level(before=[pre_tokenizers.Punctuation()], regex=False),
    "byte-level removed": lambda: byte_level(before=[SPLIT(" ", "removed")], regex=False),
    "byte-level nfc": lambda: byte_level(normalizers.NFC()),
    "byte-level nfkc lowercase": lambda: byte_level(
        normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    ),
    "byte-level nfc prefix": lambda: byte_level(normalizers.NFC(), prefix=True),
    "byte-level strip": lambda: byte_level(normalizers.Strip()),
    "byte-level incomplete": lambda: trained(
        None, pre_tokenizers.ByteLevel(False, trim_offsets=False), decoders.ByteLevel(), size=120
    ),
    "byte-level first": lambda: trained(
        None,
        pre_tokenizers.Sequence([pre_tokenizers.ByteLevel(False), SPLIT(Regex("Ġ"), "merged_with_next")]),
        decoders.ByteLevel(),
        alphabet=LEVEL,
        size=330,
    ),
    "llama": llama,
    "llama ignore merges": lambda: llama(ignore_merges=True),
    "llama without fallback": lambda: llama(bytes_too=False, byte_fallback=False, size=60),
    "llama without fusing": lambda: llama(bytes_too=False, byte_fallback=False, fuse_unk=False, size=60),
    "llama small": lambda: llama(size=20),
    "llama normalized added": lambda: llama(added=[AddedToken("<extra>", normalized=True)]),
    "llama raw added": lambda: llama(added=[AddedToken("<extra>", normalized=False)]),
    "gemma": lambda: trained(
        normalizers.Replace(" ", "▁"),
        SPLIT(" ", "merged_with_previous"),
        decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]),
        bytes_too=True,
        byte_fallback=True,
        fuse_unk=True,
    ),
    "no unknown token": lambda: trained(
        None, pre_tokenizers.WhitespaceSplit(), decoders.Fuse(), unk=False, size=60, specials=("<s>",)
    ),
    "normalizers": lambda: trained(
        normalizers.Sequence(
            [
                normalizers.NFD(),
                normalizers.StripAccents(),
                normalizers.Lowercase(),
                normalizers.Strip(left=True, right=False),
                normalizers.Replace(Regex(r"\s+"), " "),
                normalizers.Replace(Regex(r"(\d)(?=\d)"), "#"),
            ]
        ),
        pre_tokenizers.Whitespace(),
        decoders.Fuse(),
    ),
    "regex after fuse": lambda: trained(
        None,
        pre_tokenizers.Metaspace(),
        decoders.Sequence([decoders.Metaspace(), decoders.Fuse(), decoders.Replace(Regex("a +"), "_")]),
    ),
    **{
        f"normalizer {name}": lambda name=name: trained(
            getattr(normalizers, name)(), pre_tokenizers.Metaspace(), decoders.Metaspace()
        )
        for name in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Strip")
    },
    **{
        f"metaspace {scheme} {split}": lambda scheme=scheme, split=split: metaspace(scheme, split)
        for scheme in ("always", "first", "never")
        for split in (True, False)
    },
    "metaspace first after strip": lambda: trained(
        normalizers.Strip(), pre_tokenizers.Metaspace(prepend_scheme="first"), decoders.Metaspace()
    ),
    **{
        f"split {behavior} {invert} {pattern}": lambda behavior=behavior, invert=invert, pattern=pattern: (
            spaces(SPLIT(Regex(pattern) if pattern != "-" else "-", behavior, invert=invert))
        )
        for behavior in ("removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous")
        for invert in (False, True)
        for pattern in ("-", r"\s|\d")
    },
    "whitespace": lambda: spaces(pre_tokenizers.Whitespace()),
    "whitespace split": lambda: spaces(pre_tokenizers.WhitespaceSplit()),
    "punctuation": lambda: spaces(pre_tokenizers.Punctuation("contiguous")),
    "digits": lambda: spaces(pre_tokenizers.Digits()),
    "bert": lambda: spaces(pre_tokenizers.BertPreTokenizer()),
    "character": lambda: spaces(pre_tokenizers.CharDelimiterSplit("a")),
    "sequence": lambda: spaces(
        pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation(), pre_tokenizers.Digits(True)]
        )
    ),
    "nothing": lambda: trained(None, None, None, size=80),
    "lstrip": lambda: flagged(lstrip=True),
    "rstrip": lambda: flagged(rstrip=True),
    "both strips": lambda: flagged(lstrip=True, rstrip=True),
    "single word": lambda: flagged(single_word=True),
    "all flags over metaspace": lambda: flagged(metaspace, single_word=True, lstrip=True, rstrip=True),
    "flags over llama": lambda: flagged(llama, lstrip=True),
    "mixed kinds": lambda: byte_level(
        added=[AddedToken("the c", normalized=True), AddedToken("cat", normalized=False)]
    ),
    "normalized added": lambda: trained(
        normalizers.Lowercase(),
        pre_tokenizers.Metaspace(),
        decoders.Metaspace(),
        added=[AddedToken("<EXTRA>", normalized=True), AddedToken("WORD", normalized=False)],
    ),
}


@cache
def pair(name):
    """One case, in both libraries, and ours written and read again."""
    theirs = CASES[name]()
    ours = Tokenizer.from_json(theirs.to_str())
    return theirs, ours, Tokenizer.from_json(ours.to_json())


def assigned(text):
    """Drop what the libraries' Unicode versions may differ about."""
    return "".join(c for c in text if unicodedata.category(c) not in ("Cn", "Cs", "Co"))


def check(name, text):
    theirs, ours, again = pair(name)
    encoding = theirs.encode(text, add_special_tokens=False)
    ids = ours.encode(text, allowed_special="all").tolist()
    assert ids == encoding.ids, (name, text)
    assert again.encode(text, allowed_special="all").tolist() == ids
    expected = theirs.decode(ids, skip_special_tokens=False)
    assert ours.decode(ids) == expected, (name, text)
    stream = ours.decode_stream()
    assert "".join([*map(stream.push, ids), stream.flush()]) == expected


@pytest.mark.parametrize("name", CASES)
def test_ids_and_texts(name):
    theirs, ours, again = pair(name)
    assert again == ours
    assert ours.vocab_size == theirs.get_vocab_size()
    for text in [*HARD, *CORPUS[:4]]:
        check(name, text)


@pytest.mark.parametrize("name", CASES)
@given(text=BORDERS)
def test_ids_and_texts_on_the_borders(name, text):
    check(name, assigned(text))


@pytest.mark.parametrize("name", CASES)
def test_any_ids_decode_to_the_same_text(name):
    theirs, ours, _ = pair(name)
    size = ours.vocab_size
    for step, start in itertools.product((1, 7, 31), (0, 3)):
        ids = [i * step % size for i in range(start, start + 300)]
        expected = theirs.decode(ids, skip_special_tokens=False)
        stream = ours.decode_stream()
        assert "".join([*map(stream.push, ids), stream.flush()]) == ours.decode(ids)
        if "ByteFallback" not in theirs.to_str() or "�" not in expected:
            assert ours.decode(ids) == expected


# What is left out of the text shifts the offsets of tokenizers; a space that was put before it has no place in ours.
OFFSETS = [
    name
    for name in CASES
    if name
    not in (
        "no unknown token",
        "byte-level incomplete",
        "nothing",
        "byte-level prefix",
        "byte-level nfc prefix",
    )
]


@pytest.mark.parametrize("name", OFFSETS)
def test_offsets(name):
    theirs, ours, _ = pair(name)
    for text in [*HARD, *CORPUS[:4]]:
        encoding = theirs.encode(text, add_special_tokens=False)
        located = ours.encode_with_offsets(text, allowed_special="all")
        assert located.ids.tolist() == encoding.ids
        assert [tuple(span) for span in located.chars.tolist()] == encoding.offsets, (name, text)
        data = text.encode()
        for (start, end), (first, last) in zip(located.bytes.tolist(), located.chars.tolist(), strict=True):
            assert data[start:end] in text[first:last].encode()


def test_templates_are_data():
    theirs = metaspace()
    ids = [theirs.token_to_id(name) for name in ("<s>", "</s>")]
    theirs.post_processor = processors.Sequence(
        [
            processors.ByteLevel(),
            processors.TemplateProcessing("<s> $A </s>", None, [("<s>", ids[0]), ("</s>", ids[1])]),
        ]
    )
    ours = Tokenizer.from_json(theirs.to_str())
    assert ours.template == ([ids[0]], [ids[1]])
    assert ours.encode("a cat").tolist() == theirs.encode("a cat").ids[1:-1]
    again = Tokenizer.from_json(ours.to_json())
    assert again.template == ours.template
    assert tokenizers.Tokenizer.from_str(ours.to_json()).encode("a cat").ids == theirs.encode("a cat").ids


@pytest.mark.parametrize("name", CASES)
def test_written_files_load_in_tokenizers(name):
    theirs, ours, _ = pair(name)
    written = tokenizers.Tokenizer.from_str(ours.to_json())
    for text in CORPUS[:4]:
        assert written.encode(text).ids == theirs.encode(text).ids


def test_words_with_a_normalizer():
    theirs = tokenizers.Tokenizer(models.WordLevel({"a": 0, "cat": 1, "<unk>": 2}, unk_token="<unk>"))
    theirs.normalizer = normalizers.Lowercase()
    theirs.pre_tokenizer = pre_tokenizers.Whitespace()
    ours = Tokenizer.from_json(theirs.to_str())
    for text in ("A CAT, a dog", "", "  ", "cat"):
        assert ours.encode(text).tolist() == theirs.encode(text).ids
        assert ours.decode(ours.encode(text)) == theirs.decode(theirs.encode(text).ids)


def test_four_megabytes_without_a_place_to_cut():
    _, ours, _ = pair("llama")
    text = "the cat sat on the mat. " * 170_000
    assert ours.decode(ours.encode(text)) == text
    dense = "thecatsatonthemat" * 240_000
    assert ours.decode(ours.encode(dense)) == dense
