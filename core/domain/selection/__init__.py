"""Which pools may serve a request, with the reason for each candidate."""
