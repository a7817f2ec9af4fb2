"""The jobs of the controller, written as workflows: what is done again and again, by whoever lives.

reclaim      addresses that nobody uses any more, found by news and by looking at everything
autopools    the pools of applications, as large as they need to be
retirement   pools and subnets that were told to go: emptied by time, then deleted
quarantine   addresses that a stranger uses: probed, and returned when they are silent
archiving    the live log kept under its bound, the archive within its retention
noticing     executions that must be there, begun and told by the leader
deletions    deleted records, read from the log
writers      who writes to the log for jobs with many executions
telling      how jobs tell times and failures
hosting      a worker for all of this inside a controller
"""
