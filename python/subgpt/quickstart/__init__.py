"""A model's whole life in minutes, on text that every machine with Python has."""

from subgpt.quickstart.corpus import PythonCorpus, python_corpus
from subgpt.quickstart.questions import question_pairs

__all__ = ["PythonCorpus", "python_corpus", "question_pairs"]
