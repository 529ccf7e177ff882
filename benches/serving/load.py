"""Loads a server with many clients for minutes: errors, times, memory; then ends it in the middle of a text.

    python benches/serving/load.py runs/base                          # 100 clients for a minute
    python benches/serving/load.py runs/base --clients 32 --minutes 10
    python benches/serving/load.py runs/base -- --quantize int8       # what comes after -- is for `subgpt serve`

Starts `subgpt serve RUN` as it is started by hand, at a free port. Each client asks for one streamed completion after
the other, of a prompt out of a few and a length between a quarter of `--max-tokens` and all of it, and reads it to its
end. What is counted after `--warm-up`:

- errors: answers that are no 200, streams without their end, texts of the wrong length;
- time to the first token and between two events with tokens, as clients see them: median and 95th percentile. An
  event has all tokens that came since the last one was sent;
- tokens a second over all clients, beside those of one client that is alone;
- the server's resident memory, at the end of the warm-up, every half minute and at the end; what it keeps of earlier
  texts is limited to 16 MiB.

The clients share the machine with the server; where it has few cores, they are a part of what is measured. At last a
server is killed (SIGKILL) and one is ended (SIGTERM) while texts are written, and what their clients see is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

PROMPTS = [
    "Once upon a time",
    "The little dog was very",
    "One day, a girl named Lily found a",
    "In the garden",
]
GRACE = 2


@dataclass
class Tally:
    """What clients saw."""

    first: list[float] = field(default_factory=list)
    between: list[float] = field(default_factory=list)
    texts: int = 0
    tokens: int = 0
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Server:
    """A server and where it listens."""

    process: subprocess.Popen[str]
    port: int

    @property
    def memory(self) -> float:
        """Resident memory in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1024


@contextlib.contextmanager
def running(run: str, options: list[str]) -> Iterator[Server]:
    command = [sys.executable, "-m", "subgpt.cli", "serve", run, "--port", "0", "--no-playground"]
    own = ["--grace-seconds", str(GRACE), "--prefix-cache-mib", "16"]
    process = subprocess.Popen([*command, *own, *options], stderr=subprocess.PIPE, text=True)
    try:
        said = ""
        while "Ctrl-C" not in said:
            line = process.stderr.readline()
            if not line:
                sys.exit(f"the server did not start:\n{said}")
            said += line
        yield Server(process, int(re.search(r":(\d+)/v1", said).group(1)))
    finally:
        process.kill()
        process.communicate()


async def read_text(port: int, body: dict[str, object]) -> list[tuple[float, dict[str, object]]]:
    """Ask for a streamed text; gives its events and when they came. Little beside the socket: clients are many."""
    data = json.dumps({**body, "stream": True, "ignore_eos": True}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)
        status = await reader.readline()
        if b" 200 " not in status:
            raise RuntimeError(status.decode().strip() or "no answer")
        events = []
        async for line in reader:
            if line.startswith(b"data: {"):
                events.append((time.perf_counter(), json.loads(line[6:])))
            elif line.startswith(b"data: [DONE]"):
                return events
        raise RuntimeError("the stream has no end")
    finally:
        writer.close()


async def client(port: int, until: float, longest: int, draw: random.Random, tally: Tally) -> None:
    while time.perf_counter() < until:
        length = draw.randint(max(1, longest // 4), longest)
        body = {
            "prompt": draw.choice(PROMPTS),
            "max_tokens": length,
            "seed": draw.randrange(1 << 30),
            "logprobs": 0,
        }
        begin = time.perf_counter()
        try:
            events = await read_text(port, body)
        except (OSError, RuntimeError) as error:
            tally.errors.append(f"{type(error).__name__}: {error}")
            await asyncio.sleep(0.1)
            continue
        times, tokens = [], 0
        for at, event in events:
            if event.get("choices") and (found := event["choices"][0]["logprobs"]):
                times.append(at)
                tokens += len(found["tokens"])
        if tokens != length:
            tally.errors.append(f"{tokens} tokens instead of {length}: {str(events[-1][1])[:200]}")
            continue
        tally.first.append(times[0] - begin)
        tally.between += [after - before for before, after in pairwise(times)]
        tally.texts += 1
        tally.tokens += tokens


async def load(port: int, clients: int, seconds: float, longest: int, seed: int) -> Tally:
    tally = Tally()
    until = time.perf_counter() + seconds
    draws = [random.Random(seed + number) for number in range(clients)]
    await asyncio.gather(*(client(port, until, longest, draw, tally) for draw in draws))
    return tally


async def watched(server: Server, work: Awaitable[Tally], every: float = 30) -> tuple[Tally, list[float]]:
    """Wait for some work; gives what it found, and the server's memory at its begin, as it went on, and at its end."""
    seen, task = [server.memory], asyncio.ensure_future(work)
    while not (await asyncio.wait([task], timeout=every))[0]:
        seen.append(server.memory)
    return await task, [*seen, server.memory]


def show(name: str, tally: Tally, seconds: float) -> None:
    def both(values: list[float]) -> str:
        if len(values) < 2:
            return "-"
        cuts = statistics.quantiles(values, n=20)
        return f"{1000 * statistics.median(values):7.1f} {1000 * cuts[-1]:7.1f}"

    print(
        f"{name:>12} {tally.texts:7d} {tally.tokens / seconds:10.0f} {both(tally.first):>17} "
        f"{both(tally.between):>17} {len(tally.errors):7d}"
    )


async def last_words(port: int) -> str:
    """Ask for a long text; say how the stream ended."""
    try:
        events = await read_text(port, {"prompt": PROMPTS[0], "max_tokens": 4000})
    except (OSError, RuntimeError, asyncio.IncompleteReadError) as error:
        return f"{type(error).__name__}: {error}"
    last = events[-1][1]
    error = last.get("error")
    return f"[DONE] after {'the error ' + error['code'] if error else last['choices'][0]['finish_reason']}"


async def end_in_the_middle(server: Server, number: signal.Signals) -> None:
    waiting = asyncio.gather(*(last_words(server.port) for _ in range(4)))
    await asyncio.sleep(1)
    server.process.send_signal(number)
    seen = await waiting
    code = await asyncio.to_thread(server.process.wait)
    print(f"\n{number.name} while four texts are written; the process ends with {code}, its clients see")
    for one in seen:
        print(f"    {one}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run")
    parser.add_argument("serve", nargs="*", help="options of subgpt serve, after --")
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--warm-up", type=float, default=10, help="seconds")
    parser.add_argument("--alone", type=float, default=10, help="seconds of the client that is alone")
    parser.add_argument("--json", type=Path, help="write what was found into this file")
    options = parser.parse_args()

    with running(options.run, options.serve) as server:
        print(
            f"{'clients':>12} {'texts':>7} {'tokens/s':>10} {'first, ms: 50 95 %':>17} {'between: 50 95 %':>17} errors"
        )
        alone = asyncio.run(load(server.port, 1, options.alone, options.max_tokens, seed=1))
        show("1", alone, options.alone)
        asyncio.run(load(server.port, options.clients, options.warm_up, options.max_tokens, seed=10_000))
        begin = time.perf_counter()
        many = load(server.port, options.clients, options.minutes * 60, options.max_tokens, seed=20_000)
        tally, memory = asyncio.run(watched(server, many))
        took = time.perf_counter() - begin
        show(str(options.clients), tally, took)
        print("\nMiB of memory after the warm-up, every half minute and at the end:")
        print("   ", *(f"{one:.0f}" for one in memory))
        for error in sorted(set(tally.errors))[:10]:
            print(f"    {tally.errors.count(error)} x {error}")
        asyncio.run(end_in_the_middle(server, signal.SIGKILL))
    with running(options.run, options.serve) as server:
        asyncio.run(end_in_the_middle(server, signal.SIGTERM))
    if options.json:
        found = {
            "clients": options.clients,
            "errors": len(tally.errors),
            "texts": tally.texts,
            "tokens_per_second": tally.tokens / took,
            "times_one_client": tally.tokens / took / (alone.tokens / options.alone),
            "growth": memory[-1] / memory[0] - 1,
            "memory_mib": memory,
            "first_seconds": statistics.quantiles(tally.first, n=20)[9::9],
            "between_seconds": statistics.quantiles(tally.between, n=20)[9::9],
        }
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    sys.exit(1 if tally.errors else 0)


if __name__ == "__main__":
    main()
