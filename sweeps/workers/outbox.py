"""What has happened and the sweep process has not read yet, in order.

Plain state inside the exchange. It must not know what a message says.
"""

from __future__ import annotations

import asyncio

from sweeps.workers.messages import Message


class Outbox:
    """The messages to the sweep process, from the first to the end of all."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._ended = False
        self._changed = asyncio.Event()
        """Set when there are messages, and at the end."""

    def put(self, *messages: Message) -> None:
        """Add messages behind all others."""
        self._messages += messages
        self._changed.set()

    def end(self) -> None:
        """Have no more messages once those so far are taken."""
        self._ended = True
        self._changed.set()

    async def take(self) -> list[Message] | None:
        """Take all messages; wait until there is one. Return None after the end."""
        while not self._messages and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        taken, self._messages = self._messages, []
        return taken or None
