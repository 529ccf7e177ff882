"""`subgpt chat`: a talk with a model, turn after turn."""

from typing import Annotated, Any

import typer

from subgpt.cli.options import ChatTemplateOption, QuantizeOption, RunDir, examples, new_app
from subgpt.cli.settings import settings_of, with_settings
from subgpt.generation.config import GenerationConfig

app = new_app()


@app.command(
    epilog=examples(
        "subgpt chat runs/chat",
        "subgpt chat runs/chat --system 'You answer in rhymes.' --temperature 0.7 -v",
        "subgpt chat runs/chat < questions.txt > answers.txt",
    )
)
@with_settings(
    settings_of(
        GenerationConfig,
        "Sampling",
        leave_out=[
            "do_sample",
            "eos_token_id",
            "stop",
            "token_healing",
            "parse_special",
            "logit_bias",
            "bad_words_ids",
        ],
    )
)
def chat(
    run: RunDir,
    system: Annotated[
        str,
        typer.Option(
            metavar="TEXT", help="What the model is told before everything else.", show_default=False
        ),
    ] = "",
    chat_template: ChatTemplateOption = "auto",
    quantize: QuantizeOption = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(help="A text that ends an answer; may be repeated.", rich_help_panel="Sampling"),
    ] = None,
    **settings: Any,
) -> None:
    r"""Talk with a model: a line is a question, a line with a slash a command (/help lists them).

    Ctrl-C stops an answer, twice it leaves; -v shows the speed of each answer. Without a terminal every line of
    standard input is a question. With prompt_toolkit (pip install "subgpt\[chat]") lines can be edited and taken up
    again.
    """
    from subgpt.cli.loading import open_run
    from subgpt.cli.talk.lines import line_reader, somebody_types
    from subgpt.cli.talk.talk import Talk, run_talk
    from subgpt.cli.terminal import note
    from subgpt.generation.conversation import Conversation
    from subgpt.generation.stream import merge_options

    options = {name: value for name, value in settings.items() if value is not None}
    config = GenerationConfig(**options, stop=tuple(stop or ()))
    model, tokenizer = open_run(run, quantize=quantize)
    conversation = Conversation(model, tokenizer, chat_template=chat_template)
    talk = Talk(conversation, merge_options(model, config, {}), system=system)
    typed = somebody_types()
    if typed:
        form = (
            "the plain form"
            if conversation.template is None
            else f"the chat template {conversation.template.name}"
        )
        note(f"{run}, asked in {form}; /help lists commands")
    if not run_talk(talk, line_reader(), interactive=typed):
        raise typer.Exit(1)
