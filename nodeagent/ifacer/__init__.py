"""Creates master interfaces for Pods when they are needed: VLANs, bonds and VLANs on bonds.

See docs/how-to/create-vlans-and-bonds.md.

    conf.py               the network configuration of the plugin
    options.py            the text of bond options
    link_messages.py      messages of bonds and VLANs, by pyroute2
    link_plan.py          the next requests, from the desired links and the node's  (pure)
    link_configurator.py  reads, applies and repeats, one call at a time
    ifacer_handler.py     a call of the executable
"""
