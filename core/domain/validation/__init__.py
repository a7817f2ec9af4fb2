"""The validation rules of configuration objects; refusals are data.

See docs/reference/admission.md, "SpiderIPPool" and "SpiderReservedIP".

Every rule is a pure function that yields a refusal for each violation. The modules of decisions
(``core.domain.configuration.decisions``) define which rules apply to a command, and in which order.
"""
