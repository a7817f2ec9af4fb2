"""What operators use: the command line, the controller process, the installer, the lab."""
