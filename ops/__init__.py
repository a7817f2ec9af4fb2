"""What operators run and use: command line, controller, console, installer.

``lab`` and ``demo`` run from a checkout only; the wheel does not contain them.
"""
