"""A server with the playground and two models, one of them slow on purpose: `python page_server.py FOLDER`.

It prints its port, and tells at /running how many texts the slow model is writing.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI

import subgpt
from subgpt import playground
from subgpt.generation.job import Job
from subgpt.serving.models import Served

ENDLESS = {"ignore_eos": True, "eos_token_id": ()}


class SlowJob(Job):
    async def __aiter__(self):
        async for piece in super().__aiter__():
            yield piece
            await asyncio.sleep(0.05)


class SlowEngine:
    """Writes as an engine does, but never comes to an end by itself, and hands every piece over late."""

    def __init__(self, engine):
        self.engine, self.jobs = engine, []

    def submit(self, prompt, **options):
        job = self.engine.submit(prompt, **ENDLESS, **options)
        job.__class__ = SlowJob
        self.jobs.append(job)
        return job

    def chat(self, messages, **options):
        job = self.engine.chat(messages, **ENDLESS, **options)
        job.__class__ = SlowJob
        self.jobs.append(job)
        return job


def main(folder: Path) -> None:
    served = []
    for name in ("quick", "slow"):
        model, tokenizer = subgpt.load(folder / "plums")
        engine = subgpt.Engine(model, tokenizer)
        served.append(
            Served(name, folder / "plums", model, tokenizer, SlowEngine(engine) if name == "slow" else engine)
        )
    slow = served[1].engine
    app = FastAPI()

    @app.get("/running")
    def running() -> dict[str, int]:
        return {"asked": len(slow.jobs), "cancelled": sum(job.is_cancelled for job in slow.jobs)}

    playground.mount(app, served, folder)
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
