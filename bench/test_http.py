"""What does the HTTP layer cost per request and per streamed event, without a socket?

The protocol object is driven through a transport that drops what is written: the numbers are our
own work plus h11's parsing and one task per request, not the kernel's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from anzoth.config import HttpConfig
from anzoth.http import sse
from anzoth.http.connection import Connection
from anzoth.http.gate import HeadGate
from anzoth.http.messages import Request, Response
from anzoth.http.render import Renderer
from anzoth.http.server import HttpServer
from anzoth.http.stream import Stream

REQUESTS_PER_ROUND = 100
STREAMS = 64

GET = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n"

# What openai-python sends, with a body of two kilobytes.
POST = (
    b"POST /v1/chat/completions HTTP/1.1\r\n"
    b"Host: 127.0.0.1:8000\r\n"
    b"Accept-Encoding: gzip, deflate\r\n"
    b"Connection: keep-alive\r\n"
    b"Accept: application/json\r\n"
    b"Content-Type: application/json\r\n"
    b"User-Agent: OpenAI/Python 3.54.0\r\n"
    b"X-Stainless-Lang: python\r\n"
    b"X-Stainless-Package-Version: 3.54.0\r\n"
    b"X-Stainless-OS: Linux\r\n"
    b"X-Stainless-Arch: x64\r\n"
    b"X-Stainless-Runtime: CPython\r\n"
    b"X-Stainless-Runtime-Version: 3.11.7\r\n"
    b"Authorization: Bearer anz-000000000000_000000000000000000000000000000000000000000\r\n"
    b"X-Stainless-Async: false\r\n"
    b"x-stainless-retry-count: 0\r\n"
    b"x-stainless-read-timeout: 600\r\n"
    b"Content-Length: 2048\r\n\r\n" + b"x" * 2048
)


class NullTransport(asyncio.Transport):
    """Counts what is written, and forgets it."""

    def __init__(self) -> None:
        super().__init__()
        self.num_writes = 0

    def write(self, data: Any) -> None:
        self.num_writes += 1

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    uvloop = pytest.importorskip("uvloop")
    loop = uvloop.new_event_loop()
    yield loop
    loop.close()


async def _application(request: Request) -> Response:
    body = await request.read_body(1 << 20)
    return Response(200, b'{"n": %d}' % len(body))


@pytest.mark.parametrize("raw", [GET, POST], ids=["get_1_header", "post_17_headers_2_kb"])
def test_keep_alive_request(
    benchmark: BenchmarkFixture, loop: asyncio.AbstractEventLoop, raw: bytes
) -> None:
    """One request through the protocol object; the reported time is for 100 of them."""
    transport = NullTransport()
    connection = Connection(HttpServer(_application, HttpConfig()), loop)
    connection.connection_made(transport)

    async def exchange_requests() -> None:
        for _ in range(REQUESTS_PER_ROUND):
            connection.data_received(raw)
            while not connection.is_idle:  # noqa: ASYNC110  # an Event would be measured too
                await asyncio.sleep(0)

    benchmark.extra_info["requests_per_round"] = REQUESTS_PER_ROUND
    benchmark.pedantic(
        lambda: loop.run_until_complete(exchange_requests()), rounds=30, warmup_rounds=3
    )
    assert transport.num_writes == 33 * REQUESTS_PER_ROUND
    connection.connection_lost(None)


def test_gate_on_17_headers(benchmark: BenchmarkFixture) -> None:
    gate = HeadGate(HttpConfig())
    head = POST[: POST.index(b"\r\n\r\n") + 4]

    def pass_gate() -> bytes | None:
        gate.feed(head)
        return gate.try_take()

    assert benchmark(pass_gate) == head


def test_response_rendering(benchmark: BenchmarkFixture) -> None:
    renderer, response = Renderer(), Response(200, b"{}", headers=[("x-a", "1"), ("x-b", "2")])
    assert benchmark(renderer.response, response, "req_0").endswith(b"{}")


def test_one_event_to_each_of_64_streams(
    benchmark: BenchmarkFixture, loop: asyncio.AbstractEventLoop
) -> None:
    """One engine step: a 160-byte event is framed for and written to every live stream."""
    transport = NullTransport()
    streams = [
        Stream(
            transport,
            loop,
            is_chunked=True,
            comment=b": keep-alive\n",
            ping_s=15.0,
            max_write_buffer_bytes=1 << 18,
        )
        for _ in range(STREAMS)
    ]
    event = b"{%s}" % (b"x" * 158)

    def step() -> None:
        for stream in streams:
            stream.write(sse.data_frame(event))

    benchmark.extra_info["streams"] = STREAMS
    benchmark(step)
    assert transport.num_writes >= STREAMS
    for stream in streams:
        stream.close()
