"""``orbctl version``."""

from __future__ import annotations

import typer

from core import __version__
from core.eventstore.codec import SEGMENT_VERSION, STATE_VERSION
from core.eventstore.keys import LAYOUT
from ops.cli.global_options import globals_of
from ops.cli.output import show_value


def version(context: typer.Context) -> None:
    """Show the versions of program and formats.

    Examples:
      orbctl version
      orbctl version -o json
    """
    output = globals_of(context).output
    facts = {
        "version": __version__,
        "layout": LAYOUT,
        "segments": SEGMENT_VERSION,
        "state": STATE_VERSION,
    }
    if output.is_plain:
        show_value(facts, output)
        return
    print(f"orbctl {__version__} (layout {LAYOUT}, segments {SEGMENT_VERSION})")
