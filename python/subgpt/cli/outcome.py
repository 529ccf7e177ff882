"""How a command ends: every exception becomes one clear line on standard error and an exit code."""

import errno
import os
import re
import sys
import traceback
from collections.abc import Callable
from typing import Any

from subgpt.cli.origins import is_from_variable, with_origins
from subgpt.cli.streams import give_up, reader_is_gone
from subgpt.cli.volume import ReaderGone, wants_traceback
from subgpt.distributed.launch import is_told
from subgpt.errors import SubgptError
from subgpt.spelling import nearest
from subgpt.units import in_memory

FAILED, WRONG_USAGE, INTERRUPTED, NOBODY_READS = 1, 2, 130, 141

# What the native module passes on of the operating system.
_NATIVE = re.compile(r"cannot (\w+) (.+?): (.+?) \(os error (\d+)\)")
_BYTES = re.compile(r"\b(\d{7,}) bytes")
_REMEDIES = {
    "ENOENT": "check the name; what is before its last part must be a directory that is there",
    "ENOTDIR": "a part of this path is a file; name a directory",
    "EISDIR": "it is a directory; name a file",
    "EACCES": "look at who may read and write it, or name another place",
    "EPERM": "look at who may read and write it, or name another place",
    "EROFS": "it cannot be written at all; name another place",
    "ENOSPC": "make room, or name another place",
    "EDQUOT": "make room, or name another place",
}

_NO_DEVICE = "there is no device to choose: everything is computed by the processor"
_NO_EPOCHS = "a run has a number of updates: --max-steps"
# Options that other programs have, and why there is none here.
_OF_OTHERS = {
    "--device": _NO_DEVICE,
    "--gpu": _NO_DEVICE,
    "--cuda": _NO_DEVICE,
    "--threads": "the variable SUBGPT_NUM_THREADS says how many threads compute",
    "--epochs": _NO_EPOCHS,
    "--num-epochs": _NO_EPOCHS,
    "--num-train-epochs": _NO_EPOCHS,
    "--num_train_epochs": _NO_EPOCHS,
}


def finish(run: Callable[[], object]) -> int:
    """Call `run` and give the exit code; print what went wrong, with a traceback only with --debug."""
    import typer

    usage_error: type[Exception] = typer.BadParameter.__mro__[1]
    try:
        result = run()
        sys.stdout.flush()
    except usage_error as error:
        return _fail(_usage_line(error), WRONG_USAGE)
    except ReaderGone:
        return NOBODY_READS
    except (SubgptError, OSError, MemoryError) as error:
        if is_told(error):  # by another process of the same run
            return FAILED
        if isinstance(error, BrokenPipeError) and reader_is_gone():
            return NOBODY_READS
        return _fail(describe(error), FAILED)
    except (KeyboardInterrupt, typer.Abort):
        result = INTERRUPTED
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else FAILED
    except Exception as error:
        line = f"internal error: {type(error).__name__}: {error}; please report it with the output of --debug"
        return _fail(line, FAILED)
    if result == INTERRUPTED:
        print("subgpt: interrupted", file=sys.stderr)
    return result if isinstance(result, int) else 0


def describe(error: BaseException) -> str:
    """Say in one line what `error` says: the file, the reason and what to do, and nothing else."""
    if isinstance(error, OSError) and not isinstance(error, SubgptError) and error.strerror:
        place = error.filename or "standard output"
        return f"{place}: {error.strerror}{_remedy(error.errno)}"
    if isinstance(error, MemoryError) and not str(error):
        return "out of memory; try a smaller model, a smaller --batch-size or less data"
    line = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(error, SubgptError):
        return line
    native = _NATIVE.match(line)
    if native is not None:
        action, place, reason, number = native.groups()
        return f"{place}: cannot {action} it ({reason}){_remedy(int(number))}"
    line = (
        _BYTES.sub(lambda found: in_memory(int(found[1])), line) if isinstance(error, MemoryError) else line
    )
    return with_origins(line)


def _remedy(number: int | None) -> str:
    """Say what to do about what the operating system refused."""
    words = _REMEDIES.get(errno.errorcode.get(number or 0, ""))
    return f"; {words}" if words else ""


def _fail(line: str, code: int) -> int:
    if wants_traceback():
        traceback.print_exc()
    from subgpt.cli.terminal import complain

    try:
        sys.stdout.flush()
    except OSError:  # what is left finds no room or no reader; Python would fail of it once more at its end
        give_up("stdout")
    complain(line)
    return code


def _usage_line(error: Any) -> str:
    """Say what was wrong with the usage, the nearest option where there is one, and where help is."""
    message = error.format_message().strip().rstrip(".")
    message = message[:1].lower() + message[1:]
    if hasattr(error, "possibilities") and hasattr(error, "option_name"):
        message = f"no such option: {error.option_name}{_hint(error)}"
    elif "unexpected extra argument" in message and _takes_text(error):
        message += "; put a text of several words in quotes"
    elif (variable := _variable_of(error)) is not None:
        reason = message.partition(": ")[2] or message
        message = f"{variable} = {os.environ[variable]!r}: {reason}; correct the variable or unset it"
    path = error.ctx.command_path if error.ctx is not None else "subgpt"
    return f"{' '.join(message.split())} (see: {path} --help)"


def _takes_text(error: Any) -> bool:
    params = error.ctx.command.get_params(error.ctx) if error.ctx is not None else ()
    return any(str(param.metavar).strip("[]") in ("PROMPT", "TEXT") for param in params)


def _hint(error: Any) -> str:
    """Say what to give in the place of an option that there is not."""
    option = error.option_name
    if option in _OF_OTHERS:
        return f"; {_OF_OTHERS[option]}"
    params = error.ctx.command.get_params(error.ctx)
    options = [name for param in params for name in (*param.opts, *param.secondary_opts)]
    canonical = _canonical(option)
    close = canonical if canonical in options else nearest(option, options, cutoff=0.7)
    return f"; did you mean {close}?" if close else ""


def _variable_of(error: Any) -> str | None:
    """Name the variable that a bad value came from; None if it was typed."""
    param, ctx = getattr(error, "param", None), error.ctx
    variable = getattr(param, "envvar", None)
    if param is None or ctx is None or not isinstance(variable, str) or variable not in os.environ:
        return None
    return variable if is_from_variable(ctx, param.name) else None


def _canonical(option: str) -> str:
    """Translate an option that other projects have, such as nanoGPT's `--max_iters`, into ours."""
    from subgpt.generation.config import GenerationConfig
    from subgpt.training.config import TrainConfig

    name = option.lstrip("-").replace("-", "_")
    name = (TrainConfig.ALIASES | GenerationConfig.ALIASES).get(name, name)
    return "--" + name.replace("_", "-")
