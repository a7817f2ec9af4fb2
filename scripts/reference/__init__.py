"""Writes the reference pages that are generated from the code.

    .venv/bin/python -m scripts.reference            writes the pages
    .venv/bin/python -m scripts.reference --check    exits 1 if a page differs from the code

custom_resources.py   docs/reference/custom-resources.md, from the schemas of the kinds
commands.py           docs/reference/orbctl-commands.md, from the commands of orbctl
chart_values.py       docs/reference/chart-values.md, from the chart
failures.py           a table of docs/reference/errors.md, from the exception classes
"""
