"""A TCP proxy that fails on demand: it stalls, cuts, abandons and delays connections."""

import asyncio
import contextlib
import enum
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

Target = tuple[str, int] | Path
"""Where connections are forwarded to: host and port, or a Unix socket."""

_CHUNK = 65536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Way(enum.Enum):
    """The directions in which bytes flow through a connection."""

    UP = "to the server"
    DOWN = "to the client"


class _Link:
    """One client's connection, and ours to the server."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.ends = (client, server)
        self.abandoned = False

    def reset(self) -> None:
        for end in self.ends:
            with contextlib.suppress(OSError):
                end.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE
                )
            end.transport.abort()


class Proxy:
    """Listens on a port of 127.0.0.1 in a thread of its own until close().

    It starts out passing everything. The methods that change that return when it is done.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._links: set[_Link] = set()
        self._refusing = False
        self._seconds = 0.0
        self._chunks_delayed = 0
        self._offence = b""
        self._offences = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._open = {way: asyncio.Event() for way in Way}
        self.port: int = self._run(self._listen())

    @property
    def connections(self) -> int:
        """How many connections pass through, or are stuck here."""
        return len(self._links)

    @property
    def chunks_delayed(self) -> int:
        """How many pieces of data were held back so far because of delay()."""
        return self._chunks_delayed

    @property
    def offences(self) -> int:
        """How many connections were reset so far because of offend()."""
        return self._offences

    def flow(self) -> None:
        """Let everything pass again; what was abandoned or reset stays so."""
        self._run(self._set(refusing=False, seconds=0.0, stalled=(), offence=b""))

    def stall(self, *ways: Way) -> None:
        """Hold back all bytes, or those of one way; connections stay open, new ones as well."""
        self._run(self._set(stalled=ways or tuple(Way)))

    def cut(self) -> None:
        """Reset every connection, and each new one."""
        self._run(self._set(refusing=True, stalled=()))

    def reset(self) -> None:
        """Reset every connection; new ones pass."""
        self.cut()
        self.flow()

    def abandon(self) -> None:
        """Let no more bytes through on the present connections, for ever; new ones pass."""
        self._run(self._abandon())

    def delay(self, seconds: float) -> None:
        """Hold back each piece of data for so long, in both directions."""
        self._run(self._set(seconds=seconds))

    def offend(self, data: bytes) -> None:
        """Reset each connection on which these bytes are sent to the server; others pass.

        As a filter does that takes them for an attack.
        """
        self._run(self._set(offence=data))

    def close(self) -> None:
        """Reset everything and stop listening."""
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=10)

    async def _listen(self) -> int:
        for event in self._open.values():
            event.set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def _set(
        self,
        *,
        refusing: bool | None = None,
        seconds: float | None = None,
        stalled: tuple[Way, ...] | None = None,
        offence: bytes | None = None,
    ) -> None:
        if offence is not None:
            self._offence = offence
        if seconds is not None:
            self._seconds = seconds
        if stalled is not None:
            for way, event in self._open.items():
                self._switch(event, to=way not in stalled)
        if refusing is not None:
            self._refusing = refusing
        if refusing:
            for link in self._links:
                link.reset()

    @staticmethod
    def _switch(event: asyncio.Event, *, to: bool) -> None:
        change: Callable[[], None] = event.set if to else event.clear
        change()

    async def _abandon(self) -> None:
        for link in self._links:
            link.abandoned = True

    async def _end(self) -> None:
        self._server.close()
        for link in self._links:
            link.reset()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            _Link(writer, writer).reset()
            return
        try:
            from_server, to_server = await self._connect()
        except OSError:
            writer.close()  # as the server's machine would
            return
        link = _Link(writer, to_server)
        self._links.add(link)
        try:
            await asyncio.gather(
                self._pump(link, reader, to_server, Way.UP),
                self._pump(link, from_server, writer, Way.DOWN),
            )
        except OSError:
            link.reset()
        except asyncio.CancelledError:
            pass  # close(): asyncio would log the cancellation of a connection's task
        finally:
            self._links.discard(link)
            for end in link.ends:
                end.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, Path):
            return await asyncio.open_unix_connection(self._target)
        return await asyncio.open_connection(*self._target)

    async def _pump(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way
    ) -> None:
        seen = b""
        while True:
            data = await reader.read(_CHUNK)
            if self._offence and way is Way.UP:
                seen += data
                if self._offence in seen:
                    self._offences += 1
                    link.reset()
                    return
                seen = seen[-len(self._offence) :]
            if self._seconds:
                self._chunks_delayed += 1
                await asyncio.sleep(self._seconds)
            await self._open[way].wait()
            if link.abandoned:
                await asyncio.Event().wait()
            if not data:
                with contextlib.suppress(OSError):
                    writer.write_eof()
                return
            writer.write(data)
            await writer.drain()
