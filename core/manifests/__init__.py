"""The YAML of the custom resources and of records (Pod, Node, ...) <-> domain values.

``documents`` parses bounded YAML, ``schemas`` defines the fields, ``manifest_parser`` returns typed
manifests, ``commands`` turns them into commands, ``manifest_writer`` converts values to manifests.
Rules of the domain are not repeated here: ``core.domain.configuration.decisions`` may refuse a
manifest that was parsed.
"""
