"""A loopback server as a program: its address is the first line of stdout, and a signal ends it."""

import asyncio
import signal

from tests.loopback.model_server import ModelServer


async def serve(server: ModelServer) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with server:
        print(server.url, flush=True)
        await stop.wait()
