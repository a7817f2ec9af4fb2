"""The console's API and web server: the present state and past states, as JSON and as pages."""
