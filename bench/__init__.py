"""The benchmark: every measure that the project promises, taken in one run.

See docs/contributing/benchmarks.md.

    python -m bench            tables, plots and JSON into bench/results/
    python -m bench --quick    at most 120 s; one JSON object a line on standard output

    table.py     the measures and their targets
    measures/    one module per measure
    rig/         what a measure stands on: etcd with fsync, agent processes, seeded data
    callers/     processes that make the load, so that its cost is not the agent's

It measures and judges nothing in tests: a timing is no behaviour. It must never touch anything but
processes and directories of its own.
"""
