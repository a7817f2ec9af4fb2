"""Master interfaces for Pods: VLANs, bonds and VLANs on bonds, made when needed.

See docs/how-to/create-vlans-and-bonds.md.

conf.py      the network configuration of the plugin
options.py   the text of bond options
link_plan.py  what is still to be done, from what is wanted and what is there  (pure)
link_configurator.py reading, doing, reading again, one call at a time
ifacer_handler.py a call of the executable
"""
