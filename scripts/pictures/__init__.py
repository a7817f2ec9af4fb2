"""Draws the pictures of the documents as SVG files in ``docs/images/``.

    .venv/bin/python -m scripts.pictures            writes the files
    .venv/bin/python -m scripts.pictures --check    exits 1 if a file differs

``canvas.py`` draws boxes, arrows and texts, and rejects texts that do not fit or overlap.
``console.py`` and ``dashboards/`` make PNG files, with programs of their own. Each remaining module
draws the pictures of one subject.
"""
