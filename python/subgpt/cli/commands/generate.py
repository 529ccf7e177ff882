"""`subgpt generate`: text after a prompt, shown as it is written."""

from typing import Annotated, Any

import typer

from subgpt.cli.options import ChatTemplateOption, RunDir, examples, new_app
from subgpt.cli.settings import settings_of, with_settings
from subgpt.generation.config import GenerationConfig

app = new_app()


@app.command(
    epilog=examples(
        "subgpt generate runs/base 'here is a poem: ' --temperature 0.8 --top-k 50",
        "subgpt generate runs/qa 'What does os.path.join do?' --ask",
        "subgpt generate runs/base - --no-echo --seed 7 < prompt.txt > text.txt",
    )
)
@with_settings(settings_of(GenerationConfig, "Sampling", leave_out=["do_sample", "eos_token_id", "stop"]))
def generate(
    run: RunDir,
    prompt: Annotated[
        str,
        typer.Argument(
            metavar="PROMPT", help="What the text begins with; - reads standard input.", show_default=False
        ),
    ] = "",
    ask: Annotated[
        bool, typer.Option("--ask", help="Put the prompt as a question, written as fine-tuning writes it.")
    ] = False,
    chat_template: ChatTemplateOption = "auto",
    echo: Annotated[bool, typer.Option(help="Print the prompt before the text.")] = True,
    stop: Annotated[
        list[str] | None,
        typer.Option(help="A text that ends the output; may be repeated.", rich_help_panel="Sampling"),
    ] = None,
    **settings: Any,
) -> None:
    """Write text after a prompt, shown as it is written."""
    from subgpt.cli.loading import load_with_tokenizer
    from subgpt.cli.terminal import read_argument, write_stream
    from subgpt.generation.chat import stream_chat
    from subgpt.generation.stream import stream

    options = {name: value for name, value in settings.items() if value is not None}
    config = GenerationConfig(**options, stop=tuple(stop or ()))
    model, tokenizer = load_with_tokenizer(run)
    text = read_argument(prompt)
    if ask:
        question = [{"role": "user", "content": text}]
        write_stream("", stream_chat(model, tokenizer, question, config=config, chat_template=chat_template))
    else:
        write_stream(text if echo else "", stream(model, tokenizer, text, config=config))
