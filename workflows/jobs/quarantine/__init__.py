"""Quarantine: an address that a stranger uses is probed now and then, and returned when silent.

probing     what a prober is asked and answers: one small interface
schedule    when to probe again, and when silence is enough  (pure)
probe       the workflow of one address
activities  ask the prober, give the address back
notices     which executions there must be, from the projection
"""
