"""From what a user names to what a training step eats.

Reading order: `sources` (which files) -> `documents` (which texts) -> `split` (which side) -> `corpus` (ids)
-> `loader` (batches). For conversations and questions with answers: `formats` (rows of files) -> `messages` and
`instruct` (which shape) -> `plain` or `chat` (how they are written down) -> `encoding` and `masking` (ids and
what is trained) -> `examples` or `packing` (batches). `sniff` tells which of the two a source is for, `inspection`
what is in it.
"""

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
from subgpt.data.reading import read_text
from subgpt.data.segments import Segment
from subgpt.data.shards import read_shard
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
    "preview",
    "read_documents",
    "read_examples",
    "read_shard",
    "read_text",
    "render_chat",
    "sniff_kind",
    "split_examples",
    "tokenize_examples",
]
