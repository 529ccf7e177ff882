"""Properties of masks and packing that must hold for every conversation, size and seed."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from subgpt.data import CHATML, IGNORED, PackedLoader, TokenExample, read_examples, tokenize_examples
from subgpt.data.chat import ChatTemplate, chat_segments
from subgpt.data.documents import Origin
from subgpt.data.messages import Message
from subgpt.tokenizer import Tokenizer, add_special_tokens

NAMES = ["<|im_start|>", "<|im_end|>"]
TOK = add_special_tokens(Tokenizer.train(["x"], vocab_size=257), NAMES)
MARKED = ChatTemplate(
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}"
    "{{ m.content }}<|im_end|>{% endgeneration %}{% else %}{{ m.content }}<|im_end|>{% endif %}{{ '\n' }}{% endfor %}"
)
# Texts that are made of pieces of special tokens, and of anything.
pieces = st.sampled_from([*NAMES, "<|im_", "end|>", "<", "|", ">", " ", "\n", "a", "é", "\ufdd0", "🙂"])
contents = st.one_of(st.lists(pieces, min_size=1, max_size=8).map("".join), st.text(max_size=12)).filter(
    lambda text: bool(text.strip())
)
talks = st.lists(st.tuples(st.sampled_from(["user", "assistant", "system"]), contents), max_size=4).flatmap(
    lambda turns: contents.map(lambda last: [*turns, ("assistant", last)])
)


@given(talks)
def test_masks_of_chats_are_the_answers_and_nothing_else(turns):
    messages = [Message(role, content) for role, content in turns]
    answers = [f"{content}<|im_end|>" for role, content in turns if role == "assistant"]
    marked, derived = (chat_segments(template, messages, NAMES) for template in (MARKED, CHATML))
    for segments in (marked, derived):
        assert "".join(s.text for s in segments) == CHATML.render(messages)
        assert "".join(s.text for s in segments if s.trained) == "".join(answers)
    last = chat_segments(CHATML, messages, NAMES, "last")
    assert "".join(s.text for s in last if s.trained) == answers[-1]


@given(talks)
def test_the_template_alone_writes_special_tokens(turns):
    row = {"messages": [{"role": role, "content": content} for role, content in turns]}
    [made] = tokenize_examples(read_examples([row], free_turns=True, errors="replace"), TOK, template=CHATML)
    start, end = (TOK.token_to_id(name) for name in NAMES)
    specials = made.ids[np.isin(made.ids, [start, end])]
    assert specials.tolist() == [start, end] * len(turns)
    # Every answer's end is trained, no beginning is.
    assert int(made.trained[made.ids == end].sum()) == sum(role == "assistant" for role, _ in turns)
    assert not made.trained[made.ids == start].any()


examples = st.lists(
    st.tuples(st.integers(0, 9), st.integers(1, 9)).map(
        lambda sizes: TokenExample(
            np.arange(1, 2 + sum(sizes), dtype=np.uint32),
            np.arange(1 + sum(sizes)) > sizes[0],
            Origin("x", 1),
        )
    ),
    min_size=1,
    max_size=30,
)
seeds = st.integers(-(2**70), 2**70)


def documents(loader, batch):
    """Take a packed batch apart again: inputs and targets of every example."""
    for x, y, segments in zip(*batch, strict=True):
        used = int((segments >= 0).sum())
        assert (segments[used:] == -1).all()
        assert (x[used:] == loader.pad).all()
        assert (y[used:] == IGNORED).all()
        assert (np.diff(segments[:used]) >= 0).all()
        for segment in range(segments[:used].max() + 1):
            place = segments == segment
            yield x[place].tolist(), y[place].tolist()


def inputs_and_targets(example):
    targets = np.where(example.trained[1:], example.ids[1:].astype(np.int64), IGNORED)
    return str(example.ids[:-1].tolist()), str(targets.tolist())


@given(examples, st.integers(18, 60), st.integers(1, 5), seeds)
def test_every_example_is_met_once_an_epoch_and_whole(made, block, batch, seed):
    loader = PackedLoader(made, block_size=block, batch_size=batch, seed=seed, pad=77)
    expected = Counter(map(inputs_and_targets, made))
    rows = [loader.batch(step) for step in range(3 * len(loader) // batch + 1)]
    arrays = [np.concatenate([getattr(b, name) for b in rows]) for name in rows[0]._fields]
    for epoch in range(3):
        mine = [array[epoch * len(loader) : (epoch + 1) * len(loader)] for array in arrays]
        assert Counter((str(x), str(y)) for x, y in documents(loader, mine)) == expected
    padding = 1 - sum(len(e) - 1 for e in made) / (len(loader) * block)
    assert abs(loader.padding_share - padding) < 1e-12
    assert (loader.cut_prompts, loader.cut_answers) == (0, 0)


@given(examples, st.integers(1, 30), st.integers(1, 5), seeds, st.integers(0, 10**12))
def test_a_packed_batch_is_a_pure_function_of_the_step(made, block, batch, seed, step):
    first, second = (PackedLoader(made, block_size=block, batch_size=batch, seed=seed) for _ in range(2))
    second.batch(step + 1)
    for a, b in zip(first.batch(step), second.batch(step), strict=True):
        assert a.shape == (batch, block)
        assert (a == b).all()


@given(examples, st.integers(18, 60), seeds)
def test_no_two_rows_could_have_been_one(made, block, seed):
    loader = PackedLoader(made, block_size=block, batch_size=1, seed=seed)
    filled = sorted(sum(len(made[i]) - 1 for i in row) for row in loader.rows)
    assert filled[-1] <= block
    assert len(filled) < 2 or filled[0] + filled[1] > block
