"""Clients that leave: what was done for them ends."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
from starlette.types import Receive

T = TypeVar("T")


class ClientGoneError(Exception):
    """Whoever asked has left."""


async def while_connected(receive: Receive, work: Callable[[], Awaitable[T]]) -> T:
    """Do `work` while the client is there; it is cancelled when the client leaves, and ClientGoneError raised."""
    results, errors = list[T](), list[Exception]()

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        try:
            results.append(await work())
        except Exception as error:  # raised outside, where it is not one of a group
            errors.append(error)
        group.cancel_scope.cancel()
    if errors:
        raise errors[0]
    if not results:
        raise ClientGoneError
    return results[0]
