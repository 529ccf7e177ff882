"""`subgpt generate`: text after a prompt, shown as it is written."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from subgpt.cli.options import ChatTemplateOption, Json, QuantizeOption, RunDir, examples, new_app
from subgpt.cli.settings import settings_of, with_settings
from subgpt.errors import ConfigError
from subgpt.generation.config import GenerationConfig

_OWN = ["stop", "bad_words", "logit_bias"]  # may be given several times
_IN_PYTHON = ["do_sample", "eos_token_id", "bad_words_ids", "num_return_sequences"]

app = new_app()


@app.command(
    epilog=examples(
        "subgpt generate runs/base 'here is a poem: ' --temperature 0.8 --top-k 50",
        "subgpt generate runs/qa 'What does os.path.join do?' --ask",
        "subgpt generate runs/base - --no-echo --seed 7 < prompt.txt > text.txt",
        "subgpt generate runs/qa 'When? ' --regex '[0-9]{4}-[0-9]{2}-[0-9]{2}'",
    )
)
@with_settings(settings_of(GenerationConfig, "Sampling", leave_out=[*_OWN, *_IN_PYTHON]))
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
    quantize: QuantizeOption = None,
    assistant: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="A smaller model with the same tokenizer, which guesses what comes: the same text, sooner.",
            show_default=False,
        ),
    ] = None,
    echo: Annotated[bool, typer.Option(help="Print the prompt before the text.")] = True,
    stop: Annotated[
        list[str] | None,
        typer.Option(help="A text that ends the output; may be repeated.", rich_help_panel="Sampling"),
    ] = None,
    bad_words: Annotated[
        list[str] | None,
        typer.Option(
            help="A text never written, as the tokenizer cuts it; may be repeated.",
            rich_help_panel="Sampling",
        ),
    ] = None,
    logit_bias: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID=BIAS",
            help="Added to the logit of an id; may be repeated.",
            rich_help_panel="Sampling",
        ),
    ] = None,
    json: Json = False,
    **settings: Any,
) -> None:
    """Write text after a prompt, shown as it is written."""
    from subgpt.cli.loading import open_run
    from subgpt.cli.terminal import copied, detail, print_json, read_argument, speed, write_stream
    from subgpt.cli.volume import is_verbose
    from subgpt.generation.chat import stream_chat
    from subgpt.generation.generate import generate
    from subgpt.generation.stream import stream

    options = {name: value for name, value in settings.items() if value is not None}
    lists: dict[str, Any] = {
        "stop": stop,
        "bad_words": bad_words,
        "logit_bias": dict(map(_bias, logit_bias or ())),
    }
    config = GenerationConfig(**options, **{name: value for name, value in lists.items() if value})
    model, tokenizer = open_run(run, quantize=quantize)
    helper = None if assistant is None else open_run(assistant, quantize=quantize)[0]
    text = read_argument(prompt)
    if ask and helper is not None:
        raise ConfigError("generate: --assistant guesses for texts, not for --ask; leave one of them out")
    if ask:
        question = [{"role": "user", "content": text}]
        pieces = stream_chat(model, tokenizer, question, config=config, chat_template=chat_template)
    elif config.num_beams > 1:
        whole = generate(model, tokenizer, text, config=config, return_prompt=False, assistant_model=helper)
        pieces = iter([whole])
    else:
        pieces = stream(model, tokenizer, text, config=config, assistant_model=helper)
    begin = time.monotonic()
    written: list[str] = []
    if json:
        written.extend(pieces)
        print_json({"model": str(run), "prompt": text, "text": "".join(written), "seed": config.seed})
    else:
        write_stream(text if echo and not ask else "", copied(pieces, written))
    if is_verbose():  # counting encodes the text again
        tokens = tokenizer.count("".join(written), disallowed_special=())
        detail(speed(tokens, time.monotonic() - begin))


def _bias(given: str) -> tuple[str, str]:
    """Take ID=BIAS apart; the settings read both numbers."""
    id, separator, bias = given.partition("=")
    if not separator:
        raise ConfigError(f"--logit-bias {given}: give ID=BIAS, such as 50256=-100")
    return id, bias
