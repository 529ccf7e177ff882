"""`subgpt serve` with two models, one of them slow on purpose: `python page_server.py FOLDER`.

It prints its port, and tells at /running how many texts the slow model was asked for, and how many were given up.
"""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path

import uvicorn

import subgpt
from subgpt.generation.job import Job
from subgpt.serving.app import create_app
from subgpt.serving.models import Served
from subgpt.serving.settings import ServerSettings

ENDLESS = {"ignore_eos": True, "eos_token_id": ()}


class SlowJob(Job):
    def push(self, token):
        time.sleep(0.02)  # of the engine's thread: whoever reads late would have all tokens at once
        super().push(token)


class SlowEngine(subgpt.Engine):
    """Never comes to an end by itself, and takes its time for every token."""

    jobs: tuple[Job, ...] = ()

    def submit(self, prompt, **options):
        job = super().submit(prompt, **ENDLESS, **options)
        job.__class__ = SlowJob
        self.jobs = (*self.jobs, job)
        return job


def main(folder: Path) -> None:
    served = []
    for name, kind in (("quick", subgpt.Engine), ("slow", SlowEngine)):
        model, tokenizer = subgpt.load(folder / "plums")
        served.append(Served(name, folder / "plums", model, tokenizer, kind(model, tokenizer)))
    slow = served[1].engine
    app = create_app(served, ServerSettings(runs=folder))

    def running() -> dict[str, int]:
        return {"asked": len(slow.jobs), "cancelled": sum(job.is_cancelled for job in slow.jobs)}

    app.add_api_route("/running", running)
    app.router.routes.insert(0, app.router.routes.pop())  # before the page, which answers all other paths
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
