"""Schedules: executions that start at times of a specification. Names are those of Temporal.

schedule.py    the values: a schedule, its action, specification, policy and progress
times.py       the times of a specification: intervals and cron expressions. Pure
scheduler.py   the workflow that runs one schedule; every worker has it

A client's ``Schedules`` (``workflows.engine.client.schedules``) creates, shows and changes them.
"""
