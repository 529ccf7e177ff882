"""What Prometheus reads at /metrics: requests, texts, tokens, and how long they took."""

import time
from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from subgpt.serving.models import Served

_FIRST = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_BETWEEN = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_WHOLE = (0.005, 0.025, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 600)


class Metrics:
    """The numbers of one server, in a registry of its own."""

    def __init__(self, served: Sequence[Served]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.registry.register(_Engines(served))
        self._requests = Counter(
            "subgpt_requests", "Requests answered", ["route", "method", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "subgpt_request_seconds", "Time of a request", ["route"], buckets=_WHOLE, registry=self.registry
        )
        self._first = Histogram(
            "subgpt_time_to_first_token_seconds",
            "Time from a request to the first token of a text",
            ["model"],
            buckets=_FIRST,
            registry=self.registry,
        )
        self._between = Histogram(
            "subgpt_inter_token_seconds",
            "Time from a token of a text to the next",
            ["model"],
            buckets=_BETWEEN,
            registry=self.registry,
        )

    def note_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request that was answered with `status`."""
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def clock(self, model: str) -> "TokenClock":
        """Make the clock of a text that `model` is asked for now."""
        return TokenClock(self._first.labels(model), self._between.labels(model))


class TokenClock:
    """Times the tokens of one text."""

    def __init__(self, first: Histogram, between: Histogram) -> None:
        self._first, self._between = first, between
        self._before, self._begun = time.perf_counter(), False

    def note(self, count: int) -> None:
        """Say that `count` tokens came; several at once took equally long each."""
        if not count:
            return
        now = time.perf_counter()
        passed, self._before = now - self._before, now
        if not self._begun:
            self._begun = True
            self._first.observe(passed)
            count, passed = count - 1, 0.0
        for _ in range(count):
            self._between.observe(passed / count)


class _Engines(Collector):
    """Reads what the engines count, whenever somebody asks."""

    def __init__(self, served: Sequence[Served]) -> None:
        self._served = served

    def collect(self) -> Iterable[Metric]:
        running = GaugeMetricFamily("subgpt_running", "Texts that are being written", labels=["model"])
        waiting = GaugeMetricFamily("subgpt_waiting", "Texts that wait for their turn", labels=["model"])
        prompt = CounterMetricFamily("subgpt_prompt_tokens", "Tokens of prompts", labels=["model"])
        cached = CounterMetricFamily(
            "subgpt_cached_tokens", "Tokens of prompts that were known already", labels=["model"]
        )
        new = CounterMetricFamily("subgpt_generated_tokens", "Tokens written", labels=["model"])
        for one in self._served:
            stats = one.engine.stats
            running.add_metric([one.name], stats.running)
            waiting.add_metric([one.name], stats.waiting)
            prompt.add_metric([one.name], stats.prompt_tokens)
            cached.add_metric([one.name], stats.cached_tokens)
            new.add_metric([one.name], stats.new_tokens)
        return [running, waiting, prompt, cached, new]

    def describe(self) -> Iterable[Metric]:
        return []
