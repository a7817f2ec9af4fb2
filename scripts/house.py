"""Prints measures of the project's names and structure, one measure a line (``make house``).

.venv/bin/python -m scripts.house [--list]

``--list`` also prints the items that each measure counts.
"""

from __future__ import annotations

import sys

from scripts.add_path import measure_add
from scripts.reclaim_modules import measure_reclaim
from tests.tidy import names


def main() -> None:
    """Print the measures."""
    repeated = names.repeated_classes()
    add_path = measure_add()
    counted = {
        "conftests, each for one folder of tests": names.conftests(),
        "harness classes of tests": [
            f"{name}: {', '.join(paths)}" for name, paths in names.harness_classes().items()
        ],
        "harness classes with an unreadable name": names.unclear_harnesses(),
        "public classes defined more than once": [
            f"{name}: {', '.join(paths)}" for name, paths in repeated.items()
        ],
        "modules named by a participle or an adjective": names.unclear_modules(),
        "references to documents that are not in the repository": names.missing_documents(),
        "broken paths and links of documents": names.missing_paths(),
        "cited sections that do not exist": names.missing_sections(),
        f"modules under {names.SHORT_MODULE_LINES} lines": names.short_modules(),
        "module switches of an ADD": [
            f"{'.'.join(caller)} -> {'.'.join(callee)}" for caller, callee in add_path.switches
        ],
        "modules touched by the reclaim of one deleted Pod": sorted(measure_reclaim()),
    }
    for title, items in counted.items():
        print(f"{len(items):6}  {title}")
        if "--list" in sys.argv[1:]:
            print("".join(f"        {item}\n" for item in items), end="")
    frames = add_path.frames_to_the_allocator
    print(f"{frames:6}  stack frames from the socket's handler to the allocator")
    print(f"{names.glossary_rows():6}  rows in the glossary")
    print(f"{names.product_lines(in_wheel=True):6}  non-empty lines of the wheel")
    print(f"{names.product_lines(in_wheel=False):6}  non-empty lines of laboratory and demo")


if __name__ == "__main__":
    main()
