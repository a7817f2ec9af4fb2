"""The rules of configuration objects, as refusals that are data.

See docs/reference/admission.md, "SpiderIPPool" and "SpiderReservedIP".

Every rule is a pure function from values to refusals; ``core.domain.configuration.decisions`` says
which rules a command meets and in which order. Nothing here knows of claims, of events or of YAML.
"""
