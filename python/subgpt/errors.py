"""Every error that subgpt raises: one base class, and each also the builtin it resembles.

A message says what was given, where, what was expected and what to do. ``except subgpt.SubgptError`` catches all of
them; ``except ValueError`` and its like work as well.
"""


class SubgptError(Exception):
    """The base of every error that subgpt raises on purpose."""


class ShapeError(SubgptError, ValueError):
    """An array has the wrong shape, length or memory layout."""


class DtypeError(SubgptError, TypeError):
    """An array or value has the wrong type."""


class InvalidValueError(SubgptError, ValueError):
    """A value is outside what an operation accepts: an id beyond the vocabulary, a negative temperature."""


class ConfigError(SubgptError, ValueError):
    """A field of a model, training or generation configuration cannot be."""


class TokenizerError(SubgptError, ValueError):
    """A tokenizer file, vocabulary, split pattern or text cannot be used."""


class DataError(SubgptError, ValueError):
    """A corpus or data set cannot be used."""


class MissingFileError(SubgptError, FileNotFoundError):
    """A file or directory that was named is not there."""


class CheckpointError(SubgptError, OSError):
    """A weight file, checkpoint or run directory cannot be used."""


class OutputError(SubgptError, OSError):
    """A file or directory cannot be read or written: disk full, no permission, read-only."""


class LossError(SubgptError, ArithmeticError):
    """The loss or a gradient is not a finite number."""


class OutOfMemoryError(SubgptError, MemoryError):
    """A buffer is larger than the memory there is."""


class DistributedError(SubgptError, RuntimeError):
    """Processes that work on one run cannot be brought together, or one of them is gone."""


class MissingExtraError(SubgptError, ImportError):
    """A feature needs an optional dependency; the message has the ``pip install`` line."""


class BusyError(SubgptError, RuntimeError):
    """More texts are asked for than may wait: try again later."""


class InternalError(SubgptError, RuntimeError):
    """A defect of subgpt itself, caught before it could do harm. Please report it."""


def first_line(error: BaseException) -> str:
    r"""Give what an error of somebody else's says, in a line that fits into a message.

    >>> first_line(ValueError("  too long  \n  by far")), first_line(KeyError())
    ('too long', 'KeyError')
    """
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)[:200]
