"""The settings of an agent: conf.yml and environment variables, read once and checked.

agent_settings.py   the settings as values
sysctls.py          the node's sysctls
settings_loader.py  reads them; the schema of conf.yml is in ``core.settings``
"""
