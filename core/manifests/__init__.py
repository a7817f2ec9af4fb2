"""Converts the YAML of custom resources and records (Pod, Node, ...) to domain values and back.

``documents`` parses YAML of limited size, ``schemas`` defines the fields, ``manifest_parser``
returns typed manifests, ``commands`` makes commands of them, ``manifest_writer`` writes values as
manifests. Only the form is checked here; ``core.domain.configuration.decisions`` applies the rules.
"""
