"""The validation rules of configuration objects; refusals are data.

See docs/reference/admission.md, "SpiderIPPool" and "SpiderReservedIP".

Every rule is a pure function from values to refusals; ``core.domain.configuration.decisions``
defines which rules apply to a command, and in which order.
"""
