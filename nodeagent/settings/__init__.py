"""The operator's settings: conf.yml and environment variables, read once and checked.

values.py           the settings as values
conf_file.py        the schema of conf.yml
devices.py          the settings of the device plugin
sysctls.py          the node's sysctls
shared_settings.py  settings that agents and controllers read alike
settings_loader.py  reads all of them
"""
