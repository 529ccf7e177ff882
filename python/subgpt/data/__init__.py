"""From what a user names to what a training step eats.

Reading order: `sources` (which files) -> `documents` (which texts) -> `split` (which side) -> `corpus` (ids)
-> `loader` (batches). For conversations and questions with answers: `formats` (rows of files) -> `messages` and
`instruct` (which shape) -> `plain` or `chat` (how they are written down) -> `encoding` and `masking` (ids and
what is trained), both as the `form` says -> `examples` or `packing` (batches). `sniff` tells which of the two a
source is for, `inspection` what is in it. For text that is made ids once, for many runs: `prepare` -> `shards`
-> `token_sets`, `tokens` and `mixture`.

Names are loaded when they are first used: opening a model needs the chat templates and nothing else of it.
"""

from typing import TYPE_CHECKING

from subgpt.lazy import attributes

if TYPE_CHECKING:
    from subgpt.data.chat import CHATML, ChatTemplate, choose_template, missing_special_tokens, render_chat
    from subgpt.data.corpus import CorpusSummary, TokenCorpus, encode_corpus, load_corpus
    from subgpt.data.documents import Document, Origin, read_documents
    from subgpt.data.examples import ExampleLoader, evaluation_example_batches
    from subgpt.data.inspection import Inspection, inspect_examples
    from subgpt.data.instruct import Example, read_examples, split_examples
    from subgpt.data.loader import IGNORED, WindowLoader, evaluation_batches
    from subgpt.data.masking import TokenExample, preview, tokenize_examples
    from subgpt.data.messages import Message
    from subgpt.data.packing import PackedBatch, PackedLoader
    from subgpt.data.plain import format_question
    from subgpt.data.prepare.prepare import Prepared, prepare_data
    from subgpt.data.reading import read_text
    from subgpt.data.segments import Segment
    from subgpt.data.shards import read_index, read_shard
    from subgpt.data.sniff import SourceKind, sniff_kind
    from subgpt.data.sources import FoundFiles, find_files

__all__ = [
    "CHATML",
    "IGNORED",
    "ChatTemplate",
    "CorpusSummary",
    "Document",
    "Example",
    "ExampleLoader",
    "FoundFiles",
    "Inspection",
    "Message",
    "Origin",
    "PackedBatch",
    "PackedLoader",
    "Prepared",
    "Segment",
    "SourceKind",
    "TokenCorpus",
    "TokenExample",
    "WindowLoader",
    "choose_template",
    "encode_corpus",
    "evaluation_batches",
    "evaluation_example_batches",
    "find_files",
    "format_question",
    "inspect_examples",
    "load_corpus",
    "missing_special_tokens",
    "prepare_data",
    "preview",
    "read_documents",
    "read_examples",
    "read_index",
    "read_shard",
    "read_text",
    "render_chat",
    "sniff_kind",
    "split_examples",
    "tokenize_examples",
]

__getattr__, __dir__ = attributes(
    globals(),
    {
        "CHATML": "subgpt.data.chat",
        "ChatTemplate": "subgpt.data.chat",
        "CorpusSummary": "subgpt.data.corpus",
        "Document": "subgpt.data.documents",
        "Example": "subgpt.data.instruct",
        "ExampleLoader": "subgpt.data.examples",
        "FoundFiles": "subgpt.data.sources",
        "IGNORED": "subgpt.data.loader",
        "Inspection": "subgpt.data.inspection",
        "Message": "subgpt.data.messages",
        "Origin": "subgpt.data.documents",
        "PackedBatch": "subgpt.data.packing",
        "PackedLoader": "subgpt.data.packing",
        "Prepared": "subgpt.data.prepare.prepare",
        "Segment": "subgpt.data.segments",
        "SourceKind": "subgpt.data.sniff",
        "TokenCorpus": "subgpt.data.corpus",
        "TokenExample": "subgpt.data.masking",
        "WindowLoader": "subgpt.data.loader",
        "choose_template": "subgpt.data.chat",
        "encode_corpus": "subgpt.data.corpus",
        "evaluation_batches": "subgpt.data.loader",
        "evaluation_example_batches": "subgpt.data.examples",
        "find_files": "subgpt.data.sources",
        "format_question": "subgpt.data.plain",
        "inspect_examples": "subgpt.data.inspection",
        "load_corpus": "subgpt.data.corpus",
        "missing_special_tokens": "subgpt.data.chat",
        "prepare_data": "subgpt.data.prepare.prepare",
        "preview": "subgpt.data.masking",
        "read_documents": "subgpt.data.documents",
        "read_examples": "subgpt.data.instruct",
        "read_index": "subgpt.data.shards",
        "read_shard": "subgpt.data.shards",
        "read_text": "subgpt.data.reading",
        "render_chat": "subgpt.data.chat",
        "sniff_kind": "subgpt.data.sniff",
        "split_examples": "subgpt.data.instruct",
        "tokenize_examples": "subgpt.data.masking",
    },
)
