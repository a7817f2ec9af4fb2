"""The benchmark: every measure that the project promises, taken in one run.

See docs/contributing/benchmarks.md.

    python -m bench            tables, plots and JSON into bench/results/
    python -m bench --quick    at most 120 s; one JSON object a line on standard output

    table.py     the measures and their targets
    measures/    one module per measure
    rig/         what measures share: etcd with fsync, agent processes, seeded data
    callers/     processes that generate load, so that its cost is not the agent's

Timings are compared here and never in tests. The benchmark must never touch anything but its own
processes and directories.
"""
