"""One TCP port and the application behind it, of an agent or a controller; it knows neither."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from core.errors import BadInput

END_S_MAX: Final = 1.0
"""What a probe or a scrape may still take at the end, of which supervisors wait 30 s."""


class TcpPort:
    """One listening port."""

    def __init__(self, app: web.Application) -> None:
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=END_S_MAX
        )

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
