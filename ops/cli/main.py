"""Entry point of ``orbctl`` and of the kubectl plugin ``kubectl orb``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import typer

from core.errors import BadInput, OrbweaverError
from core.process.python_garbage_collector import prepare_short_run
from ops.cli import remote
from ops.cli.command_line import program_of
from ops.cli.exit_codes import Exit, report
from ops.cli.global_options import ProcessContext
from ops.cli.orbctl_application import app
from ops.cli.traced_run import run_traced

PLUGIN = "kubectl-orb"

_QUOTED_CHARS_MAX: Final = 80


def run(
    arguments: Sequence[str],
    process: ProcessContext,
    program: str = "orbctl",
    application: typer.Typer = app,
) -> int:
    """Run the program once; return its exit code."""
    try:
        program_of(application).main(
            args=list(arguments), prog_name=program, obj=process, standalone_mode=True
        )
    except OrbweaverError as error:
        return report(error)
    except UnicodeEncodeError as error:
        return report(_encoding_error(error))
    except OSError as error:
        return report(OrbweaverError(str(error)))
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else Exit.FAILED
    return Exit.OK


def _encoding_error(error: UnicodeEncodeError) -> OrbweaverError:
    # Python decodes bytes of arguments that are not UTF-8 to surrogates, which UTF-8 cannot encode.
    if error.encoding == "utf-8":
        return BadInput(
            f"{error.object[:_QUOTED_CHARS_MAX]!a} is not UTF-8 text",
            subject="arguments",
            remedy="write the arguments in UTF-8",
        )
    return OrbweaverError(
        f"the output has the encoding {error.encoding}, which lacks characters of the result",
        remedy="use a locale with UTF-8, or set PYTHONUTF8=1",
    )


def main() -> None:
    """Entry point of the console scripts."""
    prepare_short_run()
    as_plugin = Path(sys.argv[0]).name == PLUGIN
    arguments, process = sys.argv[1:], ProcessContext()
    if remote.is_remote(arguments, os.environ, as_plugin=as_plugin):
        sys.exit(_run_remotely(arguments, process))
    program = "kubectl orb" if as_plugin else "orbctl"
    sys.exit(_run_locally(arguments, process, program))


def _run_locally(arguments: Sequence[str], process: ProcessContext, program: str) -> int:
    try:
        return run_traced(
            arguments, program_of(app), os.environ, lambda: run(arguments, process, program)
        )
    except OrbweaverError as error:
        return report(error)


def _run_remotely(arguments: Sequence[str], process: ProcessContext) -> int:
    try:
        return remote.run(arguments, process.who())
    except OrbweaverError as error:
        return report(error)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED


if __name__ == "__main__":
    main()
