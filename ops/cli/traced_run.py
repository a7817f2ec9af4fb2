"""Traces a run of orbctl if ORBWEAVER_TRACES_ENDPOINT names an OTLP endpoint.

OpenTelemetry's own variables do not enable tracing, because many shells set them. The trace
continues TRACEPARENT, TRACESTATE and BAGGAGE of the caller.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from typer.core import TyperGroup

from core.process.tracing import caller_context, set_tracer
from ops.cli.command_group import CommandGroup
from ops.cli.command_line import parse_options

ENDPOINT: Final = "ORBWEAVER_TRACES_ENDPOINT"
SERVICE_NAME: Final = "orbctl"


def run_traced(
    arguments: Sequence[str],
    program: CommandGroup,
    environment: Mapping[str, str],
    run: Callable[[], int],
) -> int:
    """Call ``run``, traced if there is an endpoint; return the exit code. Raises BadInput."""
    endpoint = environment.get(ENDPOINT, "")
    if not endpoint:
        return run()
    from core.process.spans import otlp_tracer  # noqa: PLC0415  # only if tracing is on

    instance = f"{socket.gethostname()}-{os.getpid()}"
    tracer = otlp_tracer(endpoint, SERVICE_NAME, instance)
    set_tracer(tracer)
    name = " ".join((SERVICE_NAME, *_command(arguments, program)))
    try:
        with tracer.request(name, caller_context(environment), {}) as span:
            code = run()
            span.set_attribute("process.exit.code", code)
            if code:
                span.fail(str(code), "")
            return code
    finally:
        set_tracer(None)
        tracer.close()


def _command(arguments: Sequence[str], program: CommandGroup) -> tuple[str, ...]:
    # ``parse_options`` gives commands and arguments the name "".
    words = [option.words[0] for option in parse_options(arguments, program) if not option.name]
    if not words or words[0] not in program.commands:
        return ()
    command = program.command(words[0])
    if isinstance(command, TyperGroup) and len(words) > 1 and words[1] in command.commands:
        return words[0], words[1]
    return (words[0],)
