"""Running a command: in an event loop, until it is done or a signal ends it."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Final

SIGNAL_CODES: Final = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
"""Exit codes, by the habit of shells: 128 and the signal's number."""


class Interruption:
    """Ctrl+C, for a command that has something better to do than to end at once."""

    def __init__(self) -> None:
        self.happened = asyncio.Event()
        self.expected = False
        """The command watches ``happened``; otherwise it is simply cancelled."""


def in_loop(command: Callable[[Interruption], Awaitable[int]]) -> int:
    """The exit code of ``command``, or that of the signal which ended it; either way it has cleaned up."""
    caught: list[int] = []

    async def main() -> int:
        loop = asyncio.get_running_loop()
        interruption = Interruption()
        work = asyncio.ensure_future(command(interruption))

        def on_signal(number: signal.Signals) -> None:
            gently = number is signal.SIGINT and interruption.expected and not interruption.happened.is_set()
            if gently:
                interruption.happened.set()
            else:
                caught.append(SIGNAL_CODES[number])
                work.cancel()

        for number in SIGNAL_CODES:
            loop.add_signal_handler(number, on_signal, number)
        try:
            return await work
        finally:
            for number in SIGNAL_CODES:
                loop.remove_signal_handler(number)

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        return caught[0] if caught else SIGNAL_CODES[signal.SIGINT]
