"""SpiderMultusConfigs: defaults, validation rules, and NetworkAttachmentDefinitions (NADs).

    network_defaults.py    the defaults that the mutating webhook sets
    network_validation.py  the rules of the validating webhook
    coordinators.py        the rules of a coordinator's settings
    detect_options.py      reads the timing of conflict probes
    chain.py               checks the JSON of plugins that a user adds
    nad_renderer.py        renders a SpiderMultusConfig as a NAD
    network_parser.py      parses SpiderMultusConfigs and SpiderCoordinators
    pod_networks.py        adds networks and devices to a new Pod
    pod_slots.py           adds requests for extended resources to a new Pod
    gojson.py              writes JSON as Go does, because NADs are compared byte by byte

See docs/reference/admission.md, "SpiderMultusConfig" and "Pods", and
docs/reference/cni-configuration.md, "NetworkAttachmentDefinition".

NADs are identical to Spiderpool's, so that a migration does not rewrite every network. No I/O.
"""
