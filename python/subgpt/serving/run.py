"""`run_server`: listens, serves, and ends as it should: texts get some time to end, and streams their end."""

import asyncio
import contextlib
import errno
import signal
import socket
import sys
from collections.abc import Callable, Generator, Sequence
from types import FrameType

import uvicorn

from subgpt.errors import ConfigError
from subgpt.serving.app import create_app
from subgpt.serving.models import Served
from subgpt.serving.protocol import limited_protocol
from subgpt.serving.settings import ServerSettings
from subgpt.serving.work import Work

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_KEEP_ALIVE = 30
_LAST_WORDS = 5  # seconds beyond the grace for streams to send their ends
_HEAD_BYTES = 64 << 10
_SWITCH = 0.0002
"""Seconds after which the engine's thread gets Python back from that of the requests, or this from it. Each token of
each text is a turn of both; with Python's own 5 ms they would mostly wait for each other."""


class Server(uvicorn.Server):
    """Ends on SIGINT or SIGTERM: takes no more, lets texts go on for `grace` seconds, then cancels them.

    A second signal cancels them at once, a third one does not even wait for streams to get their ends.
    """

    def __init__(self, config: uvicorn.Config, work: Work, grace: float) -> None:
        super().__init__(config)
        self.on_start: Callable[[], None] = lambda: None
        self._work, self._grace = work, grace
        self._in_haste = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and tell who waits for it."""
        await super().startup(sockets)
        self.on_start()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Handle signals while serving; unlike uvicorn's own, do not die of them afterwards: the end is a success."""
        try:
            before = [signal.signal(number, self.handle_exit) for number in _SIGNALS]
        except ValueError:  # in another thread than the main one: whoever started it says when it ends
            yield
            return
        try:
            yield
        finally:
            for number, handler in zip(_SIGNALS, before, strict=True):
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end, sooner each time."""
        del sig, frame
        self.force_exit, self._in_haste, self.should_exit = self._in_haste, self.should_exit, True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let texts end, then end them, and close."""
        self._work.ending = True
        ended = asyncio.create_task(self._end_texts())
        try:
            await super().shutdown(sockets)
        finally:
            ended.cancel()

    async def _end_texts(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._grace
        while loop.time() < until and not self._in_haste:
            await asyncio.sleep(0.05)
        self._work.end_texts()


def make_server(served: Sequence[Served], settings: ServerSettings) -> Server:
    """Make the server of these models; `serve` of it starts it in an event loop."""
    app = create_app(served, settings)
    config = uvicorn.Config(
        app,
        http=limited_protocol(settings.header_seconds, settings.max_connections),
        h11_max_incomplete_event_size=_HEAD_BYTES,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=int(settings.grace_seconds + _LAST_WORDS),
        ws_max_size=settings.max_body_bytes,
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,  # as it is in the process that serves
        log_level="warning",
    )
    return Server(config, app.state.serving.work, settings.grace_seconds)


def listen(host: str, port: int) -> socket.socket:
    """Open the socket, before models are loaded; ConfigError if the address cannot be used, with the reason.

    Who connects before `run_server` takes requests waits for it.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except (OSError, UnicodeError) as error:  # the latter of a name such as a..b
        not_here = isinstance(error, OSError) and error.errno == errno.EADDRNOTAVAIL
        of_host = isinstance(error, socket.gaierror | UnicodeError) or not_here or not port
        remedy = "give another --host" if of_host else "give another --port (0: a free one)"
        said = error.strerror if isinstance(error, OSError) else "it is no name of a machine"
        reason = (said or str(error)).partition(" (while ")[0]
        raise ConfigError(f"serve: cannot listen at {host}, port {port}: {reason}; {remedy}") from None


def run_server(
    served: Sequence[Served],
    settings: ServerSettings,
    started: Callable[[str], None],
    listening: socket.socket | None = None,
) -> None:
    """Serve until a signal ends it; `started` is called with the address once requests are taken.

    listening: what `listen` opened, which is closed at the end; None opens it here. ConfigError if it cannot be.
    """
    with contextlib.closing(listening or listen(settings.host, settings.port)) as opened:
        server = make_server(served, settings)
        host, port = opened.getsockname()[:2]
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        server.on_start = lambda: started(address)
        before = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH)
        try:
            server.run([opened])
        finally:
            sys.setswitchinterval(before)
