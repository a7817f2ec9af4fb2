"""From a SpiderMultusConfig to the NetworkAttachmentDefinition that Multus reads.

    defaults.py   what the mutating webhook fills in (spec/api.md 3.6)
    rules.py      what the validating webhook refuses, in its order (3.6 and section 11, 25 to 29)
    chain.py      the plugins that a user adds, as JSON
    rendering.py  the plugin chain, key by key (4.5)
    reading.py    SpiderMultusConfigs out of YAML
    injection.py  which networks and devices a new Pod is given (3.7)
    gojson.py     JSON as the public system spells it, because NADs are compared byte by byte

All pure. A NAD must come out as the public system writes it: taking a cluster over must not rewrite
every network in it.
"""
