"""Alternately calls ADD and DEL of a node's IPAM executable, to measure an outage."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import TracebackType
from typing import Final, NamedTuple, Self

PAUSE_S: Final = 0.1
CALL_S_MAX: Final = 60.0
CONFIG: Final = json.dumps(
    {"cniVersion": "1.0.0", "name": "lan", "type": "macvlan", "ipam": {"type": "spiderpool"}}
)


class Call(NamedTuple):
    """One call of the executable; ``ended_s`` is a time of the monotonic clock."""

    verb: str
    ended_s: float
    succeeded: bool
    output: str


class CniProber:
    """A context manager that calls the executable in a thread.

    ``enter``: the command that runs another command on the node.
    ``pod``: namespace, name and UID of the Pod in CNI_ARGS.
    """

    def __init__(self, enter: Sequence[str], netns: str, pod: tuple[str, str, str]) -> None:
        self.calls: list[Call] = []
        self._command = [*enter, "/opt/cni/bin/spiderpool"]
        self._netns, self._pod = netns, pod
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._call_repeatedly)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def succeeded_since(self, moment_s: float) -> bool:
        """Whether an ADD and a DEL have succeeded after this time of the monotonic clock."""
        verbs = {call.verb for call in self.calls if call.succeeded and call.ended_s > moment_s}
        return verbs == {"ADD", "DEL"}

    @property
    def outage_s(self) -> float:
        """The longest time between the ends of two consecutive successful calls."""
        ends_s = [call.ended_s for call in self.calls if call.succeeded]
        return max((later - earlier for earlier, later in pairwise(ends_s)), default=0.0)

    def _call_repeatedly(self) -> None:
        """As runtimes do, repeat a DEL until it succeeds."""
        serial = 0
        while not self._stop.is_set():
            serial += 1
            self._call("ADD", serial)
            while not self._call("DEL", serial) and not self._stop.wait(PAUSE_S):
                pass
            self._stop.wait(PAUSE_S)

    def _call(self, verb: str, serial: int) -> bool:
        namespace, name, uid = self._pod
        arguments = {
            "K8S_POD_NAMESPACE": namespace,
            "K8S_POD_NAME": name,
            "K8S_POD_INFRA_CONTAINER_ID": f"probe-{serial}",
            "K8S_POD_UID": uid,
            "IgnoreUnknown": "1",
        }
        done = subprocess.run(
            self._command,
            env=os.environ | self._variables(verb, f"probe-{serial}", arguments),
            input=CONFIG,
            capture_output=True,
            text=True,
            check=False,
            timeout=CALL_S_MAX,
        )
        succeeded = done.returncode == 0
        self.calls.append(Call(verb, time.monotonic(), succeeded, done.stdout + done.stderr))
        return succeeded

    def _variables(self, verb: str, container: str, arguments: Mapping[str, str]) -> dict[str, str]:
        return {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": self._netns,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": "/opt/cni/bin",
            "CNI_ARGS": ";".join(f"{name}={value}" for name, value in arguments.items()),
        }
