"""Handles ADDs of the executable ``ifacer``, which create links. No link is ever removed.

The executable answers DEL, CHECK, GC and STATUS itself. An ADD does not need etcd.
"""

from __future__ import annotations

from typing import Final

import msgspec

from core.errors import DatapathError
from nodeagent.cni_protocol.failures import INTERFACE_NOT_PREPARED, CniFailure
from nodeagent.ifacer.ifacer_configuration import InterfaceConfig, read_conf
from nodeagent.ifacer.link_configurator import LinkConfigurator
from nodeagent.request_runner import ADD_DEADLINE_S, RequestRunner

NAME: Final = "ifacer"


class Ifacer:
    """Answers the calls of the executable ``ifacer``."""

    def __init__(self, runner: RequestRunner, configurator: LinkConfigurator) -> None:
        self._runner = runner
        self._configurator = configurator

    async def answer_chained(self, command: str, variables: dict[str, str], stdin: bytes) -> bytes:
        """The standard output of a call. Raises CniFailure, NetlinkLost, RequestError."""
        if command != "ADD":
            return b""
        conf = read_conf(stdin)
        if conf.links is not None:
            await self._prepare(conf.links)
        # The result of an earlier plugin in the chain is passed on.
        result = conf.previous or {"cniVersion": conf.cni_version, "dns": {}}
        return msgspec.json.format(msgspec.json.encode(result), indent=4) + b"\n"

    async def _prepare(self, config: InterfaceConfig) -> None:
        try:
            with self._runner.admit(ADD_DEADLINE_S):
                await self._configurator.prepare(config)
        except DatapathError as error:
            if error.retryable:
                raise
            raise CniFailure(INTERFACE_NOT_PREPARED, error.message, error.remedy) from error
