"""What `subgpt serve` reads and says: the key, and where the models are once they can be asked."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from subgpt.cli.tables import facts_table
from subgpt.cli.terminal import note, read_argument, remark
from subgpt.errors import ConfigError

if TYPE_CHECKING:
    from subgpt.serving import Served, ServerSettings

_KEY_BYTES = 4096


def read_key(file: Path) -> str:
    """Read a key from a file, or with - from standard input; white space around it is no part of it."""
    if str(file) == "-":
        return read_argument("-").strip()
    with file.open("rb") as opened:
        data = opened.read(_KEY_BYTES + 1)
    if len(data) > _KEY_BYTES or not data.isascii():
        raise ConfigError(f"{file}: is no file of a key; give one with a line of ASCII characters")
    return data.decode().strip()


def told_start(served: "Sequence[Served]", settings: "ServerSettings") -> Callable[[str], None]:
    """Make what prints, once requests are taken, where which models are, and who may ask."""

    def tell(address: str) -> None:
        import subgpt

        facts = [("address", f"{address}/v1")]
        if settings.playground:
            facts.append(("page", f"{address}/"))
        facts += [("model", f"{one.name}: {_described(one)}") for one in served]
        facts += [
            (
                "texts at once",
                f"{served[0].engine.max_batch} for each model, {served[0].engine.max_waiting} may wait",
            ),
            ("threads", str(subgpt.get_num_threads())),
            ("asked by", "this machine" if settings.is_local else "other machines, too"),
            ("key", "needed" if settings.api_key is not None else "none"),
        ]
        remark(facts_table(facts))
        note("Ctrl-C ends the server")

    return tell


def _described(served: "Served") -> str:
    model = served.model
    kept = f", {model.quantization}" if model.quantization else ""
    return f"{model.num_params():,} parameters{kept}, block {model.config.block_size}"
