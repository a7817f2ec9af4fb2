"""One module per measure: ``measure(lab)`` starts and ends all processes, and returns figures."""
