"""What the sweep process reads of the exchange."""

from __future__ import annotations

import asyncio

from sweeps.workers.messages import Note
from sweeps.workers.outbox import Outbox

NOTES = [Note(f"note {number}") for number in (1, 2, 3)]


async def waiting(box: Outbox) -> asyncio.Task[list[Note] | None]:
    """A reader that waits."""
    reader = asyncio.create_task(box.take())
    await asyncio.sleep(0)
    assert not reader.done()
    return reader


def test_messages_are_taken_once_and_in_order_until_all_are_taken():
    async def scenario() -> None:
        box = Outbox()
        reader = await waiting(box)
        box.put(NOTES[0])
        assert await reader == NOTES[:1]
        box.put(NOTES[1])
        box.put(NOTES[2])
        box.end()
        assert await box.take() == NOTES[1:]
        assert await box.take() is None
        assert await box.take() is None

    asyncio.run(scenario())


def test_no_message_is_not_the_end():
    async def scenario() -> None:
        box = Outbox()
        reader = await waiting(box)
        box.put()
        for _ in range(3):
            await asyncio.sleep(0)
        assert not reader.done()
        box.end()
        assert await reader is None

    asyncio.run(scenario())
