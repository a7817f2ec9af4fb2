"""The programs of operators: command line, controller, console, installer.

Laboratory and demo run from a checkout only; the wheel does not contain them.
"""
