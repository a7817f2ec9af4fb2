"""The benchmark: measures Orbweaver and compares the figures with documented targets.

See docs/contributing/benchmarks.md.

    python -m bench            tables, plots and JSON into bench/results/
    python -m bench --quick    at most 120 s; one JSON object on each line of standard output

    table.py     the measures and their targets
    measures/    one module for each measure
    rig/         etcd with fsync, agent processes, seeded data
    callers/     programs that generate load
    simulation/  hundreds of simulated nodes

The benchmark may touch only processes and directories that it created.
"""
