"""Programs that generate load.

Each reads its parameters, a JSON object, from standard input, and writes its report, a JSON object,
to standard output.
"""
