"""`subgpt serve`: models behind HTTP, as OpenAI's API."""

from pathlib import Path
from typing import Annotated, Any

import typer

from subgpt.cli.choices import one_of
from subgpt.cli.options import examples, new_app, quantize_option
from subgpt.cli.origins import in_variable
from subgpt.cli.settings import settings_of, with_settings
from subgpt.serving.settings import ServerSettings

_OWN = ["allow_hosts", "allow_origins", "runs"]  # lists, and a folder

app = new_app()


@app.command(
    epilog=examples(
        "subgpt serve runs/chat",
        "subgpt serve runs/base runs/chat --port 8080 --quantize int8",
        "SUBGPT_API_KEY=… subgpt serve runs/chat --host 0.0.0.0",
        "curl localhost:8000/v1/completions -H 'Content-Type: application/json' -d '{\"prompt\": \"Once upon\"}'",
    )
)
@with_settings(settings_of(ServerSettings, "Server", leave_out=_OWN))
def serve(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN…", help="Run directories, or any saved models.", show_default=False),
    ],
    name: Annotated[
        str | None,
        typer.Option(
            help="What requests call the model; its directory's name by default.",
            show_default=False,
            **in_variable("name"),
        ),
    ] = None,
    dtype: Annotated[
        str,
        one_of(
            ("float32", "bfloat16", "auto"),
            help="How embeddings and the pictures of the inside are computed.",
            **in_variable("dtype"),
        ),
    ] = "float32",
    quantize: Annotated[str | None, quantize_option(**in_variable("quantize"))] = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads that compute; all cores by default.", show_default=False),
    ] = None,
    max_batch: Annotated[
        int, typer.Option(min=1, help="Texts that a model writes at once.", **in_variable("max_batch"))
    ] = 32,
    max_waiting: Annotated[
        int, typer.Option(min=0, help="Texts that may wait for their turn.", **in_variable("max_waiting"))
    ] = 256,
    prefix_cache_mib: Annotated[
        int,
        typer.Option(
            min=0,
            help="Memory in MiB, for each model, for what earlier texts began with.",
            **in_variable("prefix_cache_mib"),
        ),
    ] = 256,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Read the key from a file (- for standard input): a flag can be seen by others on this machine.",
            show_default=False,
            **in_variable("api_key_file"),
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            help="A name by which the server may be called; may be repeated.", **in_variable("allow_host")
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            help="Another web page that may ask, as https://example.org; may be repeated.",
            **in_variable("allow_origin"),
        ),
    ] = None,
    page_runs: Annotated[
        Path | None,
        typer.Option(
            "--runs",
            metavar="DIR",
            help="Folder of run directories that the page shows.",
            show_default=False,
            **in_variable("runs"),
        ),
    ] = None,
    **settings: Any,
) -> None:
    """Serve models over HTTP, as OpenAI's API, with a page to try them; Ctrl-C ends it.

    Only this machine can ask, unless --host says otherwise: then a key is needed (SUBGPT_API_KEY or --api-key-file),
    which requests send as Authorization: Bearer KEY.
    """
    import contextlib

    import subgpt
    from subgpt.cli.serving import read_key, told_start
    from subgpt.serving import load_served, run_server
    from subgpt.serving.run import listen

    given = {setting: value for setting, value in settings.items() if value is not None}
    if api_key_file is not None:
        given["api_key"] = read_key(api_key_file)
    chosen = ServerSettings(
        **given, allow_hosts=tuple(allow_host or ()), allow_origins=tuple(allow_origin or ()), runs=page_runs
    )
    if threads is not None:
        subgpt.set_num_threads(threads)
    loading = load_served(
        runs,
        name=name,
        dtype=dtype,
        quantize=quantize,
        max_batch=max_batch,
        max_waiting=max_waiting,
        prefix_cache_mib=prefix_cache_mib,
    )
    # A port that is taken is better known before models are loaded, which takes long.
    with contextlib.closing(listen(chosen.host, chosen.port)) as listening, loading as served:
        run_server(served, chosen, told_start(served, chosen), listening)
