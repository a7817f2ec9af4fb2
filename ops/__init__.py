"""What operators use: the command line, the controller process, the installer.

The laboratory and the demonstration run from a checkout; the wheel leaves them out.
"""
