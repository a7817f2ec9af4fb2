"""From a SpiderMultusConfig to the NetworkAttachmentDefinition that Multus reads.

    defaults.py   what the mutating webhook fills in (docs/reference/admission.md,
    "SpiderMultusConfig") rules.py      what the validating webhook refuses, in its order
    (docs/reference/admission.md, "SpiderMultusConfig") chain.py      the plugins that a user adds,
    as JSON rendering.py  the plugin chain, key by key (docs/reference/cni-configuration.md,
    "NetworkAttachmentDefinition") reading.py    SpiderMultusConfigs out of YAML injection.py  which
    networks and devices a new Pod is given (docs/reference/admission.md, "Pods") gojson.py     JSON
    as Spiderpool spells it, because NADs are compared byte by byte

All pure. A NAD must come out as Spiderpool writes it: taking a cluster over must not rewrite
every network in it.
"""
