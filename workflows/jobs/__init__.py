"""The jobs of the controller, written as workflows: what is done again and again, by whoever lives.

reclaim      the workflow: look, release, wait, look again
scanning     its activities: one look at everything, one chunk of releases
books        what a look has found, kept in the store and named by reference
facts        where a look gets its knowledge of Pods
hosting      a worker for all of this inside a controller
"""
