"""Automatic pools: the pools that applications request are created, resized and deleted.

application             the workflow of one application, until nothing is left to do
pool_activities         the workflow's activity: plan the application's pools, apply the steps
application_dispatcher  starts and signals executions when something has changed
applications            the source of applications, and its implementation without Kubernetes
"""
