"""Settings that agents and controllers read alike.

conf_file.py        the schema of conf.yml
device_plugin.py    the settings of the device plugin
shared_settings.py  options of the daemons, address order, cool-down, network provider, traces
"""
