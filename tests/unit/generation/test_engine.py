"""`Engine`: each of many texts is what it would be alone, and what goes wrong with one is no other's business."""

from __future__ import annotations

import asyncio
import json
import threading

import numpy as np
import pytest

import subgpt
from subgpt import GPT, BusyError, ConfigError, Engine, InvalidValueError, chat, complete, generate
from subgpt.generation import beginning, structured
from subgpt.generation.job import wake
from subgpt.generation.prefix_cache import PrefixCache, Read

PROMPTS = ["so much depends", "", "the fog", "i have eaten the plums that", "t", "Question: who has eaten"]


@pytest.fixture
def long(tiny):
    """A model whose block holds a conversation."""
    return GPT(tiny(block_size=256), seed=1)


def alone(model, tokenizer, prompt, **options):
    return generate(model, tokenizer, prompt, return_prompt=False, **options)


@pytest.mark.parametrize("max_batch", [1, 2, 32])
def test_many_texts_are_those_alone(model, long, tokenizer, max_batch):
    every = [
        {"temperature": 0},
        {"top_k": 5, "repetition_penalty": 1.2},
        {"temperature": 1.5, "stop": ["e"]},
        {"logit_bias": {3: 5.0}, "ignore_eos": True},
    ]
    for one in (model, long):
        with Engine(one, tokenizer, max_batch=max_batch) as engine:
            asked = [
                (prompt, {**options, "seed": seed, "max_new_tokens": 20 + seed})
                for seed, prompt in enumerate(PROMPTS)
                for options in every
            ]
            jobs = [engine.submit(prompt, **options) for prompt, options in asked]
            for job, (prompt, options) in zip(jobs, asked, strict=True):
                assert job.text() == alone(one, tokenizer, prompt, **options), (prompt, options)
            stats = engine.stats
            assert (stats.running, stats.waiting, stats.jobs) == (0, 0, len(asked))
            assert stats.new_tokens >= sum(len(job.ids) for job in jobs)


def test_prompts_of_subwords_are_healed_as_alone(tiny):
    text = "the fog comes on little cat feet; it sits looking over harbor and city on silent haunches. "
    subwords = subgpt.Tokenizer.train([text], vocab_size=300)
    model = GPT(tiny(vocab_size=300, block_size=64), seed=2)
    with Engine(model, subwords) as engine:
        prompts = ["the fog com", "on litt", "t", "harbor and ci", "ha"]
        options = [{"seed": seed, "max_new_tokens": 12} for seed in range(6)]
        jobs = [(p, o, engine.submit(p, **o)) for p in prompts for o in options]
        for prompt, option, job in jobs:
            assert job.text() == alone(model, subwords, prompt, **option)


def test_what_is_opened_once_begins_as_many_texts_as_are_wanted(tiny, monkeypatch):
    subwords = subgpt.Tokenizer.train(["the fog comes on little cat feet. "], vocab_size=280)
    model = GPT(tiny(vocab_size=280, block_size=64), seed=2)
    talk = [{"role": "user", "content": "the fog"}]
    expected = [alone(model, subwords, "the fog com", seed=seed, max_new_tokens=12) for seed in range(6)]
    answers = [chat(model, subwords, talk, seed=seed, max_new_tokens=12) for seed in range(3)]
    calls = []
    plain = beginning.prompt_ids
    monkeypatch.setattr(
        beginning, "prompt_ids", lambda *given, **more: calls.append(given) or plain(*given, **more)
    )
    with Engine(model, subwords) as engine:
        opened = engine.open("the fog com", max_new_tokens=12)
        jobs = [engine.start(opened, seed=seed) for seed in range(6)]
        assert [job.text() for job in jobs] == expected
        assert jobs[0].prompt_ids == tuple(opened.prompt.tolist())
        opened = engine.open_chat(talk, max_new_tokens=12)
        jobs = [engine.start(opened, seed=seed) for seed in range(3)]
        assert [job.text() for job in jobs] == answers
        assert engine.stats.jobs == 9
    assert len(calls) == 1, "a prompt is encoded once"


def test_a_prompt_may_be_ids_which_are_read_as_they_are(long, tokenizer):
    with Engine(long, tokenizer) as engine:
        ids = tokenizer.encode("the fog")
        for given in (ids, ids.tolist(), ids.astype(np.int64)):
            job = engine.submit(given, seed=3, max_new_tokens=20)
            assert job.prompt_ids == tuple(ids.tolist())
            assert job.text() == alone(long, tokenizer, "the fog", seed=3, max_new_tokens=20)
        for wrong in ([], [-1], [tokenizer.vocab_size], [0.5], [[1], [1, 2]], [[1]], ["a"], [1 << 70]):
            with pytest.raises(InvalidValueError, match="one token id at least"):
                engine.submit(wrong)


def test_the_token_that_ended_a_text_is_kept(long, tokenizer):
    with Engine(long, tokenizer) as engine:
        ended = engine.submit("the", seed=1, max_new_tokens=1000, logprobs=1)
        ended.text()
        assert ended.writing.ended_by[0] == tokenizer.eot_id
        assert ended.writing.ended_by[1][0] < 0
        cut = engine.submit("the", max_new_tokens=2, ignore_eos=True)
        cut.text()
        assert cut.writing.ended_by is None


def test_a_conversation_is_answered_as_alone(long, tokenizer):
    talk = [{"role": "user", "content": "who has eaten the plums?"}]
    with Engine(long, tokenizer) as engine:
        for seed in range(4):
            answer = engine.chat(talk, seed=seed, max_new_tokens=30).text()
            assert answer == chat(long, tokenizer, talk, seed=seed, max_new_tokens=30)


def test_log_probabilities_are_those_alone(long, tokenizer):
    options = {"seed": 4, "max_new_tokens": 9, "stop": ["a"]}
    (expected,) = complete(long, tokenizer, "so much", logprobs=3, **options)
    with Engine(long, tokenizer) as engine:
        job = engine.submit("so much", logprobs=3, token_healing=False, **options)
        pieces = list(job)
        assert "".join(piece.text for piece in pieces) == expected.text
        assert tuple(job.ids) == expected.ids
        assert [logprob for logprob, _ in job.found] == [token.logprob for token in expected.tokens]
        assert [[one[0] for one in top] for _, top in job.found] == [
            [one.id for one in token.top] for token in expected.tokens
        ]
        assert sum(len(piece.ids) for piece in pieces) >= len(job.ids)


def test_a_beginning_that_was_read_is_not_read_again(long, tokenizer):
    system = "so much depends upon a red wheel barrow glazed with rain water beside the white chickens " * 2
    options = {"temperature": 0, "max_new_tokens": 10, "ignore_eos": True}
    with Engine(long, tokenizer) as engine:
        jobs = [engine.submit(system + tail, **options) for tail in ("and", "but", "or")]
        texts = [job.text() for job in jobs]
        # Those that came while the first was being read waited for it.
        assert sum(job.cached_tokens >= len(system) for job in jobs) == 2
        again = engine.submit(system + "and" + texts[0], **options)
        assert again.text() == alone(long, tokenizer, system + "and" + texts[0], **options)
        assert again.cached_tokens >= len(system) + 3 + 9
        assert engine.stats.cached_tokens == sum(job.cached_tokens for job in [*jobs, again])
        assert engine.stats.cache_bytes > 0
    for tail, text in zip(("and", "but", "or"), texts, strict=True):
        assert text == alone(long, tokenizer, system + tail, **options)
    with Engine(long, tokenizer, prefix_cache_mib=0) as engine:
        engine.submit(system, **options).text()
        job = engine.submit(system, **options)
        job.text()
        assert (job.cached_tokens, engine.stats.cache_bytes) == (0, 0)


def test_the_prefix_cache_keeps_what_was_of_use_last(long):
    def read(ids):
        session = long.native.session()
        session.append(ids)
        return Read(session, session.ids)

    ids = [np.arange(40, dtype=np.uint32) % 20 + first for first in range(4)]
    one = read(ids[0]).session.cache_bytes
    cache = PrefixCache(2 * one)
    cache.put(read(ids[0]))
    cache.put(read(ids[1]))
    assert cache.take(ids[0]) is not None  # and the other is the older one now
    cache.put(read(ids[2]))
    assert (cache.take(ids[1]), len(cache)) == (None, 2)
    longer = np.append(ids[0], np.uint32(3))
    cache.put(read(longer))  # which makes its own beginning needless
    assert len(cache) == 2
    session = cache.take(longer)
    assert session is not None
    assert len(session.ids) == 40


@pytest.mark.parametrize("room", [3, 1000])
def test_the_prefix_cache_finds_the_longest_beginning(long, room):
    def read(ids):
        session = long.native.session()
        session.append(ids)
        return Read(session, session.ids)

    draw = np.random.default_rng(1)
    cache = PrefixCache(room * read(np.zeros(12, dtype=np.uint32)).session.cache_bytes)
    for _ in range(60):
        ids = draw.integers(0, 2, draw.integers(2, 12)).astype(np.uint32)
        kept = [one.ids.tolist() for one in cache._kept.values()]
        asked = ids.tolist()[:-1]
        longest = max(
            (sum(asked[:n] == one[:n] for n in range(1, len(asked) + 1) if n <= len(one)) for one in kept),
            default=0,
        )
        session = cache.take(ids)
        assert (0 if session is None else len(session.ids)) == longest
        cache.put(read(ids))
        assert cache.bytes == sum(one.session.cache_bytes for one in cache._kept.values()) <= cache.capacity
        assert set(map(id, cache._beginning.values())) == set(map(id, cache._kept.values()))


def test_pieces_come_while_the_text_is_written(long, tokenizer):
    with Engine(long, tokenizer) as engine:
        job = engine.submit("so", max_new_tokens=4000, temperature=0, ignore_eos=True)
        pieces = iter(job)
        assert next(pieces).text
        assert job.finish_reason is None
        rest = list(pieces)
        assert job.finish_reason == "length"
        assert len(job.ids) == 4000
        assert rest


def test_an_event_loop_can_wait_for_texts(long, tokenizer):
    async def read(engine, prompt):
        return "".join([piece.text async for piece in engine.submit(prompt, seed=1, max_new_tokens=25)])

    async def all_of_them(engine):
        return await asyncio.gather(*(read(engine, prompt) for prompt in PROMPTS))

    async def leave_early(engine):
        job = engine.submit("so", max_new_tokens=10_000, ignore_eos=True)
        pieces = aiter(job)
        await anext(pieces)
        await pieces.aclose()
        return job

    with Engine(long, tokenizer) as engine:
        texts = asyncio.run(all_of_them(engine))
        assert texts == [alone(long, tokenizer, prompt, seed=1, max_new_tokens=25) for prompt in PROMPTS]
        left = asyncio.run(leave_early(engine))
        list(left)
        assert left.finish_reason == "cancelled"
        assert len(left.ids) < 10_000


def test_what_came_while_nobody_looked_is_one_piece(long, tokenizer):
    async def read_late(engine):
        job = engine.submit("so", seed=1, max_new_tokens=25, ignore_eos=True, logprobs=1)
        while job.finish_reason is None:  # nobody is told before somebody listens
            await asyncio.sleep(0.01)
        return job, [piece async for piece in job]

    with Engine(long, tokenizer) as engine:
        job, pieces = asyncio.run(read_late(engine))
        assert len(pieces) == 1
        assert pieces[0].text == alone(long, tokenizer, "so", seed=1, max_new_tokens=25, ignore_eos=True)
        assert (list(pieces[0].ids), list(pieces[0].found)) == (job.ids, job.found)
        again = engine.submit("so", seed=1, max_new_tokens=25, ignore_eos=True)
        again.text()
        assert [len(piece.ids) for piece in again] == []


def test_an_event_loop_is_told_once_of_all_texts():
    class Loop:
        def __init__(self):
            self.calls = []

        def call_soon_threadsafe(self, *call):
            self.calls.append(call)

    class Closed:
        def call_soon_threadsafe(self, *call):
            raise RuntimeError("Event loop is closed")

    class Listener:
        def __init__(self, loop):
            self._listener = None if loop is None else (loop, asyncio.Event())

    one, other = Loop(), Loop()
    jobs = [Listener(loop) for loop in (one, None, Closed(), one, other)]
    wake(jobs)
    assert (len(one.calls), len(other.calls)) == (1, 1)
    for function, *arguments in one.calls:
        function(*arguments)
    assert [job._listener[1].is_set() for job in (jobs[0], jobs[3], jobs[4])] == [True, True, False]


def test_a_job_that_is_cancelled_ends(long, tokenizer):
    with Engine(long, tokenizer, max_batch=1) as engine:
        first = engine.submit("so", max_new_tokens=100_000, ignore_eos=True)
        second = engine.submit("so", max_new_tokens=3)
        third = engine.submit("so", max_new_tokens=3, seed=1)
        second.cancel()
        assert (second.text(), second.finish_reason, second.ids) == ("", "cancelled", [])
        pieces = iter(first)
        assert next(pieces).text
        first.cancel()
        list(pieces)
        assert first.finish_reason == "cancelled"
        assert third.text() == alone(long, tokenizer, "so", max_new_tokens=3, seed=1)


def test_an_error_is_that_of_its_own_text(long, tokenizer):
    pytest.importorskip("llguidance", reason="structured output needs the extra `structured`")
    with Engine(long, tokenizer) as engine:
        good = engine.submit("so", seed=1, max_new_tokens=40)
        bad = engine.submit("so", regex="€+", max_new_tokens=5)  # which the tokenizer has not
        also = engine.submit("so", regex="[0-9]{4}", max_new_tokens=9, seed=2)
        with pytest.raises(InvalidValueError, match="no token"):
            list(bad)
        assert bad.finish_reason is None
        assert good.text() == alone(long, tokenizer, "so", seed=1, max_new_tokens=40)
        assert json.loads("1" + also.text()) >= 10_000


def test_a_grammar_is_read_once_and_by_who_asks(long, tokenizer, monkeypatch):
    pytest.importorskip("llguidance", reason="structured output needs the extra `structured`")
    threads, grammar_of = [], structured._grammar

    def noted(settings):
        threads.append(threading.current_thread())
        return grammar_of(settings)

    monkeypatch.setattr(structured, "_grammar", noted)
    with Engine(long, tokenizer) as engine:
        texts = [engine.submit("so", regex="[0-9]{4}", max_new_tokens=9, seed=2).text() for _ in range(2)]
    assert texts[0] == texts[1]
    assert len(texts[0]) == 4
    assert threads == [threading.current_thread()] * 2


@pytest.mark.parametrize("where", ["take", "put"])
def test_a_text_ends_also_where_what_is_kept_fails(long, tokenizer, monkeypatch, where):
    def fail(*_):
        raise subgpt.OutOfMemoryError("no room")

    with Engine(long, tokenizer) as engine:
        with monkeypatch.context() as patch:
            patch.setattr(engine._prefixes, where, fail)
            job = engine.submit("so", seed=1, max_new_tokens=4)
            if where == "take":  # before anything is read
                with pytest.raises(subgpt.OutOfMemoryError):
                    job.text()
            else:  # when all is written
                assert job.text() == alone(long, tokenizer, "so", seed=1, max_new_tokens=4)
        assert engine.submit("so", seed=2, max_new_tokens=4).text()
        assert engine.stats.running == engine.stats.waiting == 0


def test_what_cannot_be_is_refused_at_once(long, tokenizer):
    with Engine(long, tokenizer) as engine:
        wrong = [
            {"temperature": -1},
            {"num_beams": 2},
            {"n": 3},
            {"logprobs": -1},
            {"logprobs": "3"},
            {"top_q": 1},
        ]
        for options in wrong:
            with pytest.raises(ConfigError):
                engine.submit("so", **options)
        with pytest.raises(InvalidValueError):
            engine.submit(3)
        assert engine.stats.jobs == 0
    with pytest.raises(InvalidValueError, match="closed"):
        engine.submit("so")
    engine.close()  # once more does no harm
    for options in ({"max_batch": 0}, {"max_waiting": -1}, {"prefix_cache_mib": 1.5}, {"max_batch": True}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            Engine(long, tokenizer, **options)
    with pytest.raises(ConfigError):
        Engine(
            GPT(subgpt.GPTConfig(vocab_size=5, block_size=8, n_layer=1, n_head=1, n_embd=8), seed=1),
            tokenizer,
        )


def test_too_many_are_refused_until_one_ends(long, tokenizer):
    with Engine(long, tokenizer, max_batch=1, max_waiting=1) as engine:
        jobs = [engine.submit("so", max_new_tokens=100_000, ignore_eos=True) for _ in range(2)]
        with pytest.raises(BusyError, match="max_waiting = 1"):
            engine.submit("so")
        for job in jobs:
            job.cancel()
            list(job)
        assert engine.submit("so", max_new_tokens=2, seed=1).text()


def test_closing_ends_all_texts(long, tokenizer):
    engine = Engine(long, tokenizer, max_batch=1)
    jobs = [engine.submit("so", max_new_tokens=100_000, ignore_eos=True) for _ in range(3)]
    engine.close()
    for job in jobs:
        list(job)
        assert job.finish_reason == "cancelled"


def test_threads_may_ask_at_once(long, tokenizer):
    texts = {}
    with Engine(long, tokenizer, max_batch=4) as engine:

        def ask(number):
            texts[number] = engine.submit("so", seed=number, max_new_tokens=20).text()

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for number, text in texts.items():
        assert text == alone(long, tokenizer, "so", seed=number, max_new_tokens=20)


def test_sessions_in_a_batch_are_checked(long, tiny):
    batch = subgpt._core.Batch(long.native)
    session, other = long.native.session(), GPT(tiny(), seed=1).native.session()
    with pytest.raises(InvalidValueError, match="twice"):
        batch.append([session, session], [[1], [2]])
    with pytest.raises(InvalidValueError, match="another model"):
        batch.append([session, other], [[1], [2]])
    with pytest.raises(subgpt.ShapeError, match="2 ids for 1"):
        batch.append([session], [[1], [2]])
    (error,) = batch.sample([session], [subgpt.GenerationConfig(seed=1).to_native()], [None])
    assert isinstance(error, InvalidValueError)
    batch.append([], [])
