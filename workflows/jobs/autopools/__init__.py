"""Automatic pools: the pools of an application are what it asks for.

application   the workflow of one application, until nothing is left to do
reconciling   its activity
dispatching   who wakes it
applications  where it gets its knowledge of applications, and the same without Kubernetes
"""
