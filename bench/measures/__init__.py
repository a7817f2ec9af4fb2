"""One module per measure: ``measure(lab)`` starts what it needs, returns figures, stops all."""
