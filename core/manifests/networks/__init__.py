"""SpiderMultusConfigs: defaults, rules, and the NetworkAttachmentDefinitions made from them.

    network_defaults.py    the defaults that the mutating webhook sets
    network_validation.py  the rules of the validating webhook
    coordinators.py        the rules of a coordinator's settings
    detect_options.py      the timing of probes
    chain.py               the plugins that a user adds, as JSON
    nad_renderer.py        renders the plugin chain
    network_parser.py      parses SpiderMultusConfigs and SpiderCoordinators
    pod_networks.py        adds networks and devices to a new Pod
    pod_slots.py           adds requests for slots to a new Pod
    gojson.py              writes JSON as Go does, because NADs are compared byte by byte

See docs/reference/admission.md, "SpiderMultusConfig" and "Pods", and
docs/reference/cni-configuration.md, "NetworkAttachmentDefinition".

Pure. NADs are identical to Spiderpool's, so that a migration does not rewrite every network.
"""
