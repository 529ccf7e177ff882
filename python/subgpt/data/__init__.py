"""From what a user names to what a training step eats.

Reading order: `sources` (which files) -> `documents` (which texts) -> `split` (which side) -> `corpus` (ids)
-> `loader` (batches). For questions with answers: `instruct` (which shape) -> `masking` (ids and what is
trained) -> `examples` (batches). `sniff` tells which of the two a source is for.
"""

from subgpt.data.corpus import CorpusSummary, TokenCorpus, encode_corpus, load_corpus
from subgpt.data.documents import Document, Origin, read_documents
from subgpt.data.examples import ExampleLoader, evaluation_example_batches
from subgpt.data.instruct import Example, Segment, format_question, read_examples, split_examples
from subgpt.data.loader import IGNORED, WindowLoader, evaluation_batches
from subgpt.data.masking import TokenExample, preview, tokenize_examples
from subgpt.data.reading import read_text
from subgpt.data.shards import read_shard
from subgpt.data.sniff import SourceKind, sniff_kind
from subgpt.data.sources import FoundFiles, find_files

__all__ = [
    "IGNORED",
    "CorpusSummary",
    "Document",
    "Example",
    "ExampleLoader",
    "FoundFiles",
    "Origin",
    "Segment",
    "SourceKind",
    "TokenCorpus",
    "TokenExample",
    "WindowLoader",
    "encode_corpus",
    "evaluation_batches",
    "evaluation_example_batches",
    "find_files",
    "format_question",
    "load_corpus",
    "preview",
    "read_documents",
    "read_examples",
    "read_shard",
    "read_text",
    "sniff_kind",
    "split_examples",
    "tokenize_examples",
]
