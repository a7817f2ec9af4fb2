"""A logger for workflow code: silent in replay, with the run's ids in each record."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

from workflows.api.context import CURRENT_RUN


class _WorkflowLogger(logging.LoggerAdapter[logging.Logger]):
    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's name
        run = CURRENT_RUN.get()
        return (run is None or not run.replaying) and super().isEnabledFor(level)

    def process(
        self, msg: object, kwargs: MutableMapping[str, Any]
    ) -> tuple[object, MutableMapping[str, Any]]:
        run = CURRENT_RUN.get()
        if run is not None:
            info = run.info()
            kwargs["extra"] = {"workflow_id": info.workflow_id, "run_id": info.run_id}
        return msg, kwargs

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:  # noqa: ANN401
        if not self.isEnabledFor(level):
            return
        msg, options = self.process(msg, kwargs)
        token = CURRENT_RUN.set(None)  # log handlers may do I/O, workflow code may not
        try:
            self.logger.log(level, msg, *args, **options)
        finally:
            CURRENT_RUN.reset(token)


logger = _WorkflowLogger(logging.getLogger("orbweaver.workflow"))
"""For workflow code, where a plain logger fails because it reads the clock."""
