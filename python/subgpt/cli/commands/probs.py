"""`subgpt probs`: what a model expects next."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from subgpt.cli.options import Json, QuantizeOption, RunDir, examples, new_app
from subgpt.cli.settings import settings_of, with_settings
from subgpt.generation.config import TYPED, GenerationConfig

if TYPE_CHECKING:
    from subgpt.evaluation.next_tokens import Distribution
    from subgpt.model.gpt import GPT
    from subgpt.tokenizer import Tokenizer

app = new_app()


@app.command(
    epilog=examples(
        "subgpt probs runs/base 'write me a'",
        "subgpt probs runs/base 'write me a' --temperature 0.7 --top-p 0.9",
        "subgpt probs runs/base 'write me a' --all",
        "subgpt probs runs/base 'write me a' --lens",
        "subgpt probs runs/base 'write me a' -k 3 --json",
    )
)
@with_settings(settings_of(GenerationConfig, "Sampling (what it makes of the distribution)", only=TYPED))
def probs(
    run: RunDir,
    prompt: Annotated[
        str,
        typer.Argument(metavar="PROMPT", help="The text so far; - reads standard input.", show_default=False),
    ] = "",
    count: Annotated[
        int | None,
        typer.Option(
            "--count",
            "-k",
            help="How many tokens to show; the table of --lens has the best alone, its JSON all. "
            "[dim]\\[default: 10; 3 with --all, 1 with --lens][/dim]",
            show_default=False,
        ),
    ] = None,
    every: Annotated[
        bool,
        typer.Option("--all", help="For every position of the prompt, with the rank of what follows there."),
    ] = False,
    lens: Annotated[
        bool,
        typer.Option("--lens", help="For every position, what each layer would predict (the logit lens)."),
    ] = False,
    quantize: QuantizeOption = None,
    json: Json = False,
    **settings: Any,
) -> None:
    """Show the distribution over the next token: the most probable tokens, and how sure the model is.

    A model gives every token of its vocabulary a probability between 0 and 1; together they are 1.
    """
    from subgpt.cli.loading import open_run
    from subgpt.cli.terminal import read_argument
    from subgpt.errors import ConfigError

    rules = {name: value for name, value in settings.items() if value is not None}
    if every and lens:
        raise ConfigError("probs: --all and --lens are two views; ask for one of them")
    if lens and rules:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in rules)
        raise ConfigError(
            f"probs: --lens shows what the layers predict before any sampling; leave {named} out"
        )
    model, tokenizer = open_run(run, quantize=quantize)
    text = read_argument(prompt)
    if lens:
        _lens(model, tokenizer, text, 1 if count is None else count, json)
    elif every:
        _positions(model, tokenizer, text, 3 if count is None else count, json, rules)
    elif rules:
        _reshaped(model, tokenizer, text, 10 if count is None else count, json, rules)
    else:
        _next(model, tokenizer, text, 10 if count is None else count, json)


def _next(model: "GPT", tokenizer: "Tokenizer", text: str, count: int, json: bool) -> None:
    from subgpt.cli.distributions import candidate_lines, entropy_line, print_lines
    from subgpt.cli.terminal import out, print_json
    from subgpt.evaluation.next_tokens import next_distribution

    found = next_distribution(model, tokenizer, text, count)
    if json:
        print_json(_plain(found))
        return
    print_lines(candidate_lines(found.tokens))
    out().print()
    out().print(entropy_line(found))


def _reshaped(
    model: "GPT", tokenizer: "Tokenizer", text: str, count: int, json: bool, rules: dict[str, Any]
) -> None:
    from subgpt.cli.distributions import entropy_line, print_lines, reshaped_lines
    from subgpt.cli.terminal import out, print_json
    from subgpt.evaluation.reshaped import reshaped_distribution

    found = reshaped_distribution(model, tokenizer, text, count, **rules)
    if json:
        print_json({**_plain(found.before), "sampling": rules, "after": _plain(found.after)})
        return
    print_lines(reshaped_lines(found))
    out().print()
    out().print(f"the model's:  {entropy_line(found.before)}")
    out().print(f"drawn from:   {entropy_line(found.after)}")


def _positions(
    model: "GPT", tokenizer: "Tokenizer", text: str, count: int, json: bool, rules: dict[str, Any]
) -> None:
    from subgpt.cli.distributions import position_lines, print_lines
    from subgpt.cli.terminal import print_json
    from subgpt.evaluation.positions import position_distributions

    found = position_distributions(model, tokenizer, text, count, **rules)
    if json:
        rows = []
        for p in found:
            following = None if p.following is None else {**p.following._asdict(), "rank": p.rank}
            here = {"position": p.position, "text": p.text, "id": p.id, "following": following}
            rows.append({**here, **_plain(p.expected)})
        print_json(rows)
        return
    print_lines(position_lines(found))


def _lens(model: "GPT", tokenizer: "Tokenizer", text: str, count: int, json: bool) -> None:
    from subgpt.cli.distributions import lens_lines, print_lines
    from subgpt.cli.terminal import out, print_json
    from subgpt.inside.lens import lens_on

    found = lens_on(model, tokenizer, text, count)
    if json:
        layers = [[[token._asdict() for token in at] for at in layer] for layer in found.layers]
        print_json({**asdict(found), "layers": layers})
        return
    print_lines(lens_lines(found, out().width))


def _plain(expected: "Distribution") -> dict[str, Any]:
    """Make what JSON can hold of a distribution."""
    return {
        "tokens": [token._asdict() for token in expected.tokens],
        "shown": expected.shown,
        "entropy_nats": expected.entropy,
        "entropy_bits": expected.bits,
        "perplexity": expected.perplexity,
    }
