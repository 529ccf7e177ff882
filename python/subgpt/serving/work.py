"""`Work`: what a server is doing, so that there is never too much of it, and that it can be brought to an end."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from subgpt.serving.errors import ApiError

if TYPE_CHECKING:
    from subgpt.generation.job import Job


class Work:
    """Requests and texts that are being worked on.

    Attributes:
        requests: How many requests there are.
        ending: Whether the server ends, and takes no more.

    """

    def __init__(self, max_requests: int) -> None:
        self.requests, self.ending = 0, False
        self._most = max_requests
        self._jobs: set[Job] = set()

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count a request; ApiError if there are too many (429), or the server ends (503)."""
        if self.ending:
            raise ending()
        if self.requests >= self._most:
            raise ApiError(429, f"{self._most} requests are being worked on; try again later", retry_after=1)
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    @contextmanager
    def cancelling(self, jobs: list["Job"]) -> Iterator[None]:
        """Cancel the jobs of a request when it ends, however it does; they come to the list while it goes on."""
        try:
            yield
        finally:
            for job in jobs:
                self._jobs.discard(job)
                job.cancel()

    def follow(self, job: "Job") -> None:
        """Have a job end when the server does."""
        self._jobs.add(job)
        if self.ending:
            job.cancel()

    def end_texts(self) -> None:
        """Cancel all texts; their requests say so to their clients."""
        for job in list(self._jobs):
            job.cancel()


def ending() -> ApiError:
    """Make the error of a server that ends."""
    return ApiError(503, "the server is shutting down; try again later", code="shutting_down", retry_after=5)
