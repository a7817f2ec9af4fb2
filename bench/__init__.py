"""The benchmark: takes every measure with a documented target in one run.

See docs/contributing/benchmarks.md.

    python -m bench            tables, plots and JSON into bench/results/
    python -m bench --quick    at most 120 s; one JSON object on each line of standard output

    table.py     the measures and their targets
    measures/    one module per measure
    rig/         shared by measures: etcd with fsync, agent processes, seeded data
    callers/     processes that generate load, so that its CPU is not counted as the agent's

Timings are compared here and never in tests. The benchmark must only touch its own processes and
directories.
"""
