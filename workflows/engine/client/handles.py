"""The handles of an execution and of an update.

Queries and updates by name return plain data; by method, they return the method's return type.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, overload

from workflows.engine.store.records import Reply
from workflows.model.payloads import Payload
from workflows.model.policies import UpdateStage

if TYPE_CHECKING:
    from workflows.engine.client.client import Client

T = TypeVar("T")


class UpdateHandle(NamedTuple, Generic[T]):
    """An update that was sent. ``reply``: the outcome, None while it is unknown.

    ``message_id``: None if an earlier call sent the update.
    """

    client: Client
    workflow_id: str
    update_id: str
    name: str = "update"
    result_type: Any = Any
    message_id: str | None = None
    reply: Reply | None = None

    async def result(self) -> T:
        """Wait for the result. Raises CallRejected, or the failure of the handler."""
        return await self.client.update_result(self)


class WorkflowHandle(NamedTuple):
    """An execution. ``run_id``: the run that was started or found.

    ``opened_at``: the revision of the store at the start, 0 for a found run.
    """

    client: Client
    workflow_id: str
    run_id: str
    result_type: Any = Any
    opened_at: int = 0

    async def result(self) -> Any:  # noqa: ANN401 - of the workflow's own type
        """See ``Client.result``. Raises ExecutionFailed."""
        return await self.client.result(
            self.workflow_id, self.run_id, self.result_type, self.opened_at
        )

    async def signal(self, signal: str | Callable[..., Any], *args: object) -> None:
        """See ``Client.signal``."""
        await self.client.signal(self.workflow_id, signal, *args)

    @overload
    async def query(  # noqa: D418 - tests/tidy wants every public name documented
        self, query: str, *args: object
    ) -> Payload:
        """Query by name."""

    @overload
    async def query(  # noqa: D418 - tests/tidy wants every public name documented
        self, query: Callable[..., T], *args: object
    ) -> T:
        """Query by method."""

    async def query(self, query: str | Callable[..., Any], *args: object) -> Any:
        """See ``Client.query``."""
        return await self.client.query(self.workflow_id, query, *args)

    @overload
    async def update(  # noqa: D418 - tests/tidy wants every public name documented
        self, update: str, *args: object
    ) -> Payload:
        """Update by name."""

    @overload
    async def update(  # noqa: D418 - tests/tidy wants every public name documented
        self, update: Callable[..., Awaitable[T]], *args: object
    ) -> T:
        """Update by async method."""

    @overload
    async def update(  # noqa: D418 - tests/tidy wants every public name documented
        self, update: Callable[..., T], *args: object
    ) -> T:
        """Update by plain method."""

    async def update(self, update: str | Callable[..., Any], *args: object) -> Any:
        """See ``Client.update``."""
        return await self.client.update(self.workflow_id, update, *args)

    @overload
    async def start_update(  # noqa: D418 - tests/tidy wants every public name documented
        self, update: str, *args: object, wait_for_stage: UpdateStage = ..., update_id: str = ...
    ) -> UpdateHandle[Payload]:
        """Start an update by name."""

    @overload
    async def start_update(  # noqa: D418 - tests/tidy wants every public name documented
        self,
        update: Callable[..., Awaitable[T]],
        *args: object,
        wait_for_stage: UpdateStage = ...,
        update_id: str = ...,
    ) -> UpdateHandle[T]:
        """Start an update by async method."""

    @overload
    async def start_update(  # noqa: D418 - tests/tidy wants every public name documented
        self,
        update: Callable[..., T],
        *args: object,
        wait_for_stage: UpdateStage = ...,
        update_id: str = ...,
    ) -> UpdateHandle[T]:
        """Start an update by plain method."""

    async def start_update(
        self,
        update: str | Callable[..., Any],
        *args: object,
        wait_for_stage: UpdateStage = UpdateStage.ACCEPTED,
        update_id: str = "",
    ) -> UpdateHandle[Any]:
        """See ``Client.start_update``."""
        return await self.client.start_update(
            self.workflow_id, update, *args, wait_for_stage=wait_for_stage, update_id=update_id
        )

    def update_handle(self, update_id: str) -> UpdateHandle[Payload]:
        """The handle of an update that any process has sent. The result is plain data."""
        return UpdateHandle(self.client, self.workflow_id, update_id)

    async def pause(self, reason: str = "") -> None:
        """See ``Client.pause``."""
        await self.client.pause(self.workflow_id, reason)

    async def unpause(self, reason: str = "") -> None:
        """Resume a paused execution; see ``Client.retry``."""
        await self.client.retry(self.workflow_id, reason)

    async def cancel(self, reason: str = "") -> None:
        """See ``Client.cancel``."""
        await self.client.cancel(self.workflow_id, reason)

    async def terminate(self, reason: str = "") -> None:
        """See ``Client.terminate``."""
        await self.client.terminate(self.workflow_id, reason)
