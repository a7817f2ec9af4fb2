"""Creates master interfaces for Pods when they are needed: VLANs, bonds and VLANs on bonds.

See docs/how-to/create-vlans-and-bonds.md.

    ifacer_configuration.py  the network configuration of the plugin
    bond_options.py          the text of bond options
    link_messages.py         messages of bonds and VLANs, by pyroute2
    link_plan.py             the next requests, from the desired and the existing links (pure)
    link_configurator.py     applies the requests until none is left
    ifacer_handler.py        a call of the executable
"""
