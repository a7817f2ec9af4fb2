"""What an operator decides: conf.yml and environment variables, read once, checked by schema.

values.py        the settings as the agent uses them
conf_file.py     the schema of conf.yml
devices.py       what the device plugin offers
settings_loader.py       both together
"""
