"""How a command ends: every exception becomes one clear line on standard error and an exit code."""

import sys
import traceback
from collections.abc import Callable
from typing import Any

from subgpt.cli.volume import wants_traceback
from subgpt.distributed.launch import is_told
from subgpt.errors import SubgptError

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130


def finish(run: Callable[[], object]) -> int:
    """Call `run` and give the exit code; print what went wrong, with a traceback only with --debug."""
    import typer

    usage_error: type[Exception] = typer.BadParameter.__mro__[1]
    try:
        result = run()
    except usage_error as error:
        return _fail(_usage_line(error), WRONG_USAGE)
    except (SubgptError, OSError, MemoryError) as error:
        if is_told(error):  # by another process of the same run
            return FAILED
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
    """Say in one line what `error` says: the file and the reason, or the message and nothing else."""
    if isinstance(error, OSError) and not isinstance(error, SubgptError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror}"
    if isinstance(error, MemoryError) and not str(error):
        return "out of memory; try a smaller model, a smaller --batch-size or less data"
    return " ".join(str(error).split()) or type(error).__name__


def _fail(line: str, code: int) -> int:
    if wants_traceback():
        traceback.print_exc()
    from subgpt.cli.terminal import complain

    sys.stdout.flush()
    complain(line)
    return code


def _usage_line(error: Any) -> str:
    """Say what was wrong with the usage, the nearest option where there is one, and where help is."""
    message = error.format_message().strip().rstrip(".")
    if hasattr(error, "possibilities") and hasattr(error, "option_name"):
        from subgpt.spelling import nearest

        options = [name for param in error.ctx.command.get_params(error.ctx) for name in param.opts]
        known_elsewhere = _canonical(error.option_name)
        close = known_elsewhere if known_elsewhere in options else nearest(error.option_name, options)
        message = f"no such option: {error.option_name}" + (f"; did you mean {close}?" if close else "")
    message = message[:1].lower() + message[1:]
    path = error.ctx.command_path if error.ctx is not None else "subgpt"
    return f"{' '.join(message.split())} (see: {path} --help)"


def _canonical(option: str) -> str:
    """Translate an option that other projects have, such as nanoGPT's `--max_iters`, into ours."""
    from subgpt.generation.config import GenerationConfig
    from subgpt.training.config import TrainConfig

    name = option.lstrip("-").replace("-", "_")
    name = (TrainConfig.ALIASES | GenerationConfig.ALIASES).get(name, name)
    return "--" + name.replace("_", "-")
