"""Pool selection: the pools that may serve a request, with the reason for each candidate."""
