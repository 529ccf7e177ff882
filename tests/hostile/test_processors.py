"""The whole life on every instruction set: forced where this processor has it, emulated where it has more.

An emulated Nehalem (2008) knows no AVX at all: whatever the extension does when it is imported, an instruction that
old processors lack would end it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

import subgpt

LIFE = """
import subgpt
texts = ["so much depends upon a red wheel barrow\\n" * 8] * 4
tokenizer = subgpt.Tokenizer.train(iter(texts), vocab_size=280)
shape = subgpt.GPTConfig(tokenizer.vocab_size, block_size=16, n_layer=1, n_head=2, n_embd=32)
model = subgpt.GPT(shape, seed=1)
config = subgpt.TrainConfig(max_steps=3, batch_size=2, learning_rate=1e-2)
subgpt.pretrain(model, tokenizer, iter(texts), config, callbacks=())
loss = subgpt.evaluate(model, tokenizer, iter(texts)).loss
ids = model.generate(tokenizer.encode("so"), max_new_tokens=4, temperature=0)
print(subgpt.isa(), tokenizer.encode("so much").tolist(), ids.tolist(), loss.hex())
"""
QEMU = shutil.which("qemu-x86_64") or shutil.which("qemu-x86_64-static")


def life(*before: str, **environment: str) -> list[str]:
    """Live it in a process of its own; give the instruction set, and what came of it."""
    done = subprocess.run(
        [*before, sys.executable, "-c", LIFE], env={**os.environ, "SUBGPT_NUM_THREADS": "1", **environment},
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().split(" ", 1)


@pytest.fixture(scope="module")
def native() -> dict[str, str]:
    """What comes of it on each instruction set of this processor."""
    return dict(life(SUBGPT_ISA=name) for name in subgpt.available_isas())


def test_each_instruction_set_may_be_forced_and_does_the_same(native):
    assert list(native) == list(subgpt.available_isas())
    assert (
        len({result.rsplit(" ", 1)[0] for result in native.values()}) == 1
    )  # all but the last bits of a loss
    assert len({result for name, result in native.items() if name != "portable"}) <= 1


@pytest.mark.skipif(QEMU is None, reason="emulated processors need qemu-user: apt install qemu-user")
@pytest.mark.parametrize(("processor", "isa"), [("Nehalem", "portable"), ("Haswell", "avx2")])
def test_a_processor_without_it_falls_back(native, processor, isa):
    assert QEMU is not None
    found = life(QEMU, "-cpu", processor)
    assert found == [isa, native[isa]]
