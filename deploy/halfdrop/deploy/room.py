"""Watch the room on the disk: warn when it runs out, and bring the streams back once there is some again.

A NATS server whose stream could not be written refuses that stream until it is started again, long after there is
room; orders would be answered with 503 until a person noticed.
"""

import asyncio
from collections.abc import Callable, Sequence

from halfdrop.deploy.folder import DataFolder
from halfdrop.deploy.parts import Part

LOW_BYTES = 64 * 2**20
"""Under this an order may not find room for its files."""

ENOUGH_BYTES = 2 * LOW_BYTES
"""Above this there is room again; the gap keeps a disk at the brink from restarting servers for ever."""

POLL_S = 2.0


async def watch_room(
    folder: DataFolder, servers: Sequence[Part], say: Callable[[str], None], *, poll_s: float = POLL_S
) -> None:
    """Say when room runs out; when it is back, stop `servers` so that the supervisor starts them again."""
    was_low = False
    while True:
        await asyncio.sleep(poll_s)
        free_bytes = folder.free_bytes()
        if not was_low and free_bytes < LOW_BYTES:
            was_low = True
            say(f"disk almost full: {free_bytes // 2**20} MB free for {folder.root}; orders fail until there is room")
        elif was_low and free_bytes > ENOUGH_BYTES:
            was_low = False
            say("room on the disk again; starting the streams again")
            for server in servers:
                await server.stop()
