"""The tqdm bar of a plain Python program in a terminal."""

import io

import subgpt
from subgpt.training.callbacks import RollbackEvent, TqdmBar

TEXTS = ["so much depends upon a red wheel barrow\n" * 10] * 4


def test_a_run_moves_the_bar_and_says_the_rest_above_it():
    tokenizer = subgpt.Tokenizer.train(iter(TEXTS), level="char")
    model = subgpt.GPT(subgpt.GPTConfig(tokenizer.vocab_size, 16, n_layer=1, n_head=1, n_embd=8), seed=1)
    stream = io.StringIO()
    config = subgpt.TrainConfig(max_steps=4, eval_steps=2, batch_size=2)
    run = subgpt.pretrain(model, tokenizer, iter(TEXTS), config, callbacks=[TqdmBar(stream)])
    said = stream.getvalue()
    assert "4/4" in said
    assert "step 2: validation loss" in said
    assert said.rstrip().endswith(str(run).splitlines()[-1])


def test_a_rollback_moves_it_back():
    stream = io.StringIO()
    bar = TqdmBar(stream)
    from tqdm import tqdm

    bar._bar = tqdm(total=10, initial=8, file=stream)
    bar.on_rollback(RollbackEvent(1, 3, 5, 8, 3, "the loss leapt; look at the data"))
    assert bar._bar.n == 5
    assert "the loss leapt; rolled back to step 5" in stream.getvalue()
    bar._bar.close()
