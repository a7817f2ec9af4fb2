"""From a SpiderMultusConfig to the NetworkAttachmentDefinition that Multus reads.

    defaults.py        what the mutating webhook fills in
    rules.py           what the validating webhook refuses, in its order
    chain.py           the plugins that a user adds, as JSON
    nad_renderer.py    the plugin chain, key by key
    network_parser.py  SpiderMultusConfigs out of YAML
    injection.py       which networks and devices a new Pod is given
    gojson.py          JSON as Spiderpool spells it, because NADs are compared byte by byte

See docs/reference/admission.md, "SpiderMultusConfig" and "Pods", and
docs/reference/cni-configuration.md, "NetworkAttachmentDefinition".

All pure. A NAD must come out as Spiderpool writes it: taking a cluster over must not rewrite
every network in it.
"""
