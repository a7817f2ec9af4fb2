"""The handle of an execution: what ``Client.start`` returns, and the calls that it makes for it.

Signals, queries and updates are named by the methods that handle them, or by their names. A call by
method has the type that the method returns. A handle holds no state and writes nothing itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

from workflows.model.payloads import Payload

if TYPE_CHECKING:
    from workflows.engine.client.client import Client

T = TypeVar("T")


class WorkflowHandle(NamedTuple):
    """An execution. ``run_id``: the run that was started or found.

    ``opened_at``: the revision of the store at which it was started, 0 if it was found.
    """

    client: Client
    workflow_id: str
    run_id: str
    result_type: Any = Any
    opened_at: int = 0

    async def result(self) -> Any:  # noqa: ANN401 - of the workflow's own type
        """Wait for the end of the execution, over continued runs. Raises ExecutionFailed."""
        return await self.client.result(*self[1:])

    async def signal(self, signal: str | Callable[..., Any], *args: object) -> None:
        """See ``Client.signal``."""
        await self.client.signal(self.workflow_id, signal, *args)

    @overload
    async def query(  # noqa: D418 - tests/tidy wants every public name documented
        self, query: str, *args: object
    ) -> Payload:
        """A query by its name: plain data."""

    @overload
    async def query(  # noqa: D418 - tests/tidy wants every public name documented
        self, query: Callable[..., T], *args: object
    ) -> T:
        """A query by its method: what the method returns."""

    async def query(self, query: str | Callable[..., Any], *args: object) -> Any:
        """See ``Client.query``."""
        return await self.client.query(self.workflow_id, query, *args)

    @overload
    async def update(  # noqa: D418 - tests/tidy wants every public name documented
        self, update: str, *args: object
    ) -> Payload:
        """An update by its name: plain data."""

    @overload
    async def update(  # noqa: D418 - tests/tidy wants every public name documented
        self, update: Callable[..., Awaitable[T]], *args: object
    ) -> T:
        """An update by its async method: what the method returns."""

    @overload
    async def update(  # noqa: D418 - tests/tidy wants every public name documented
        self, update: Callable[..., T], *args: object
    ) -> T:
        """An update by its plain method: what the method returns."""

    async def update(self, update: str | Callable[..., Any], *args: object) -> Any:
        """See ``Client.update``."""
        return await self.client.update(self.workflow_id, update, *args)

    async def pause(self, reason: str = "") -> None:
        """See ``Client.pause``."""
        await self.client.pause(self.workflow_id, reason)

    async def unpause(self, reason: str = "") -> None:
        """See ``Client.retry``, which resumes an execution whatever it was paused for."""
        await self.client.retry(self.workflow_id, reason)

    async def cancel(self, reason: str = "") -> None:
        """See ``Client.cancel``."""
        await self.client.cancel(self.workflow_id, reason)

    async def terminate(self, reason: str = "") -> None:
        """See ``Client.terminate``."""
        await self.client.terminate(self.workflow_id, reason)
