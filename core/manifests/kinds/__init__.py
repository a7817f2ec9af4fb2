"""The fields of every supported kind, as typed structs: for the parser and for the CRDs.

See docs/reference/custom-resources.md. ``kubectl explain`` prints the descriptions. CEL rules are
an early check in the API server. They must accept every object that
``core.domain.configuration.decisions`` accepts, and may accept more.
"""
