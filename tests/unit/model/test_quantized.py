"""Models with weights in few bits: what they compute, what they take, what they are not for."""

from __future__ import annotations

import numpy as np
import pytest

import subgpt
from subgpt import GPT, ConfigError, GPTConfig, InvalidValueError
from subgpt.adapters.attach import fingerprint
from subgpt.adapters.config import LoraConfig
from subgpt.gguf.model import save_gguf

# The largest error of a weight beside the largest of its 32: half a step, and for int4 the end that is cut off.
COARSE = {"int8": 0.5 / 127 + 1e-3, "int4": 1 / 8 + 1e-3}
IDS = [3, 1, 4, 1, 5]


def make(**changes) -> GPT:
    shape = {"vocab_size": 11, "block_size": 8, "n_layer": 2, "n_head": 2, "n_embd": 48}
    return GPT(GPTConfig(**{**shape, **changes}), seed=1)


@pytest.fixture(params=["int8", "int4"])
def kind(request) -> str:
    return request.param


@pytest.mark.parametrize("family", [{}, {"norm": "rms_norm", "position": "rotary", "mlp": "gated"}])
def test_weights_are_near_and_the_others_are_the_same(kind, family):
    model = make(**family)
    before, shapes = model.state_dict(), model.native.tensor_shapes()
    assert model.quantization is None
    model.quantize(kind, head=False)
    assert (model.quantization, model.native.tensor_shapes()) == (kind, shapes)
    assert model.num_params() == make(**family).num_params()
    changed = set()
    for name, value in model.state_dict().items():
        assert value.shape == before[name].shape
        assert np.abs(value - before[name]).max() <= COARSE[kind] * np.abs(before[name]).max()
        if not np.array_equal(value, before[name]):
            changed.add(name)
    blocks = (".h.", ".layers.")
    assert changed == {
        name
        for name in before
        if any(block in name for block in blocks) and before[name].ndim == 2 and before[name].any()
    }


def test_it_computes_what_its_numbers_say(kind):
    model, twin = make(), make()
    model.quantize(kind, head=False)
    twin.load_state_dict(model.state_dict())
    np.testing.assert_allclose(model.forward(IDS), twin.forward(IDS), rtol=0, atol=1e-6)
    np.testing.assert_allclose(model.next_token_probs(IDS), twin.next_token_probs(IDS), rtol=0, atol=1e-6)
    greedy = {"temperature": 0, "max_new_tokens": 12, "eos_token_id": None}
    new = model.generate(IDS, **greedy)  # it rounds activations to 8 bits
    assert new.size == len(IDS) + 12
    session = model.native.session()
    session.append(IDS)
    np.testing.assert_allclose(session.logits(), twin.forward(IDS)[-1], rtol=0, atol=2e-2)


@pytest.mark.parametrize("family", [{}, {"norm": "rms_norm", "position": "rotary", "tie_embeddings": False}])
@pytest.mark.parametrize(("bits", "atol"), [("bfloat16", 3e-3), ("int8", 2e-2), ("int4", 2e-2)])
def test_a_whole_model_has_its_head_in_few_bits_too(family, bits, atol):
    model, twin = make(**family), make(**family)
    model.quantize(bits)
    assert model.quantization == bits
    state = model.state_dict()
    head = "transformer.wte.weight" if "transformer.wte.weight" in state else "lm_head.weight"
    assert not np.array_equal(state[head], twin.state_dict()[head])
    twin.load_state_dict(state)
    np.testing.assert_allclose(model.forward(IDS), twin.forward(IDS), rtol=0, atol=atol)
    np.testing.assert_allclose(model.next_token_probs(IDS), twin.next_token_probs(IDS), rtol=0, atol=atol)


def test_memory_falls(kind):
    model = make(n_embd=64, n_layer=4)
    weights = sum(
        value.size for name, value in model.state_dict().items() if ".h." in name and value.ndim == 2
    )
    before = model.native.memory(1, 8, False)["parameters"]
    model.quantize(kind, head=False)
    saved = before - model.native.memory(1, 8, False)["parameters"]
    assert saved == weights * (4 - {"int8": 34, "int4": 18}[kind] / 32)


def test_its_adapters_belong_to_the_float32_weights(kind, tmp_path):
    model = make()
    known = fingerprint(model)
    model.quantize(kind)
    assert fingerprint(model) == known
    model.add_adapter(LoraConfig(r=2), seed=1)
    model.backward(IDS[:-1], IDS[1:])
    subgpt.AdamW(model, learning_rate=1e-2).step()
    assert all("lora" in name for name in model.grads())
    model.save_adapter(tmp_path / "adapter")
    whole = make()
    whole.load_adapter(tmp_path / "adapter")
    whole.quantize(kind)  # adapters stay
    np.testing.assert_array_equal(whole.forward(IDS), model.forward(IDS))


def test_a_directory_is_opened_so(kind, tmp_path):
    model = make()
    model.save(tmp_path / "base")
    opened, _ = subgpt.load(tmp_path / "base", quantize=kind)
    model.quantize(kind)
    np.testing.assert_array_equal(opened.forward(IDS), model.forward(IDS))
    assert (
        fingerprint(opened) == fingerprint(model) == fingerprint(make())
    )  # what adapters know their base by
    with pytest.raises(ConfigError, match="'int7' is not known"):
        subgpt.load(tmp_path / "base", quantize="int7")


def test_what_needs_float32_weights_is_refused(tmp_path):
    model = make()
    with pytest.raises(ConfigError, match="int8"):
        model.quantize("int9")
    model.quantize("int8")
    state = model.state_dict()
    for doing, remedy in [
        (lambda: model.quantize("int4"), "open the float32 model again"),
        (lambda: model.save(tmp_path / "x"), "save_adapter"),
        (lambda: save_gguf(model, tmp_path / "x.gguf"), "q8_0"),
        (lambda: model.resize_embeddings(12), "resize the float32 model"),
        (lambda: model.load_state_dict(state), "then quantize it"),
    ]:
        with pytest.raises(ConfigError, match=remedy):
            doing()
    assert list(tmp_path.iterdir()) == []
    model.add_adapter(LoraConfig(r=2))
    with pytest.raises(ConfigError, match="subgpt merge"):
        model.merge_adapter()
    name = "transformer.h.0.mlp.c_fc.weight"
    with pytest.raises(InvalidValueError, match="quantized"):
        model.native.set_tensor(name, state[name])


def test_weights_that_are_not_finite_leave_it_as_it_was():
    model = make()
    name = "transformer.h.0.mlp.c_fc.weight"
    model.native.set_tensor(name, np.full_like(model.state_dict()[name], np.inf))
    with pytest.raises(InvalidValueError, match="not finite"):
        model.quantize("int8")
    assert model.quantization is None


def test_without_an_adapter_only_the_other_weights_are_trained():
    model = make()
    model.quantize("int8")
    model.backward(IDS[:-1], IDS[1:])
    assert {".weight" in name and ".ln_" not in name for name in model.grads() if ".h." in name} == {False}
    model.freeze(["*.wte.*", "*.wpe.*", "*.ln_*", "*.bias"])
    with pytest.raises(InvalidValueError, match="adapter"):
        model.backward(IDS[:-1], IDS[1:])
