"""One module per measure: ``measure(lab)`` starts what it needs, answers figures, ends it all."""
