"""One TCP port and the application behind it, of an agent or a controller; it knows neither."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from core.errors import BadInput

END_S_MAX: Final = 1.0
"""What a request may still take at the end: it was waited for, and supervisors wait 30 s in all."""


def runner_of(app: web.Application) -> web.AppRunner:
    """What serves an application of ours: no log of accesses, no signals, a short end."""
    return web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=END_S_MAX)


class TcpPort:
    """One listening port."""

    def __init__(self, app: web.Application) -> None:
        self._runner = runner_of(app)

    async def open(self, address: str, port: int, setting: str) -> None:
        """Listen; port 0 takes a free one. Raises BadInput, its subject the setting's name."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, address, port).start()
        except OSError as error:
            raise BadInput(
                f"cannot listen on {address} port {port}: {error.strerror}",
                subject=setting,
                remedy="stop who has it, or choose another port",
            ) from error

    @property
    def port(self) -> int:
        """The port that it has."""
        return int(self._runner.addresses[0][1])

    async def close(self) -> None:
        """Listen no more."""
        await self._runner.cleanup()
