"""Programs that generate load: a JSON order on standard input, a JSON report on standard output."""
