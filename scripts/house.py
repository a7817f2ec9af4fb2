"""Prints how readable the project's vocabulary is, one measure a line (``make house``).

.venv/bin/python -m scripts.house           the measures
.venv/bin/python -m scripts.house --list    and what each counts
"""

from __future__ import annotations

import sys

from tests.tidy import names


def main() -> None:
    """Print each measure, and with ``--list`` below it what it counts."""
    repeated = names.repeated_classes()
    counted = {
        "public classes defined more than once": [
            f"{name}: {', '.join(paths)}" for name, paths in repeated.items()
        ],
        "modules named by a participle or a mood": names.unreadable_modules(),
        "references to documents that are not in the repository": names.missing_documents(),
        "paths and links of documents that lead nowhere": names.missing_paths(),
        f"modules under {names.SHORT_MODULE_LINES} lines": names.short_modules(),
    }
    for title, found in counted.items():
        print(f"{len(found):6}  {title}")
        if "--list" in sys.argv[1:]:
            print("".join(f"        {line}\n" for line in found), end="")
    print(f"{names.glossary_rows():6}  rows in the glossary")
    print(f"{names.product_lines():6}  lines of the product, empty ones aside")


if __name__ == "__main__":
    main()
