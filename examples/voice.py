"""A voice: a model that tells stories for children learns to talk like Shakespeare, whatever it is asked to go on with.

The loss on held-out Shakespeare says how well it does; the samples begin as the stories do. The second run replays
stories, which keeps the old voice beside the new one: with it the model has both, without it only the new one is left.

    python examples/voice.py
    python examples/voice.py --voice ../shared/data/corpora/books/alice_s_adventures_in_wonderland.txt
"""

from __future__ import annotations

from pathlib import Path

from common import Stories, load_base, need, parser, print_run, print_sample, run, settings

import subgpt

PROMPTS = ("Once upon a time", "My lord, ")


def main() -> None:
    """Learn the voice without and with replay, and print losses and samples."""
    parse = parser(__doc__, held_out=False)
    parse.add_argument("--voice", type=Path, help="a text in the voice to be learnt (Shakespeare)")
    given = parse.parse_args()
    play = given.data / "corpora" / "tinyshakespeare.txt"
    voice = need(given.voice, "--voice") if given.voice else need(play)
    stories = Stories.read(given.data)
    base, tokenizer = load_base(given.data)
    for prompt in PROMPTS:
        print_sample(base, tokenizer, prompt)
    for title, replay in (("voice alone", None), ("voice and replayed stories", stories.replay)):
        model, tokenizer = load_base(given.data)
        course = subgpt.finetune(
            model,
            tokenizer,
            voice,
            settings("voice", given, block_size=256),
            old_source=stories.held_out,
            replay_source=replay,
            callbacks=(),
        )
        print_run(title, course)
        for prompt in PROMPTS:
            print_sample(model, tokenizer, prompt)


if __name__ == "__main__":
    run(main)
