"""Draws the pictures of the documents as SVG files in ``docs/images/``.

    .venv/bin/python -m scripts.pictures            writes the files
    .venv/bin/python -m scripts.pictures --check    exits 1 if a file differs

``canvas.py`` draws boxes, arrows and texts, and refuses a text that does not fit or covers another.
Each other module draws the pictures of one subject.
"""
