"""The rules of configuration objects, as refusals that are data (spec/api.md 3.1, 3.2, 3.4, 11).

Every rule is a pure function from values to refusals; ``core.domain.decisions`` says which rules a
command meets and in which order. Nothing here knows of claims, of events or of YAML.
"""
