"""The YAML of the custom resources and of records (Pod, Node, ...) <-> domain values.

``documents`` reads bounded YAML, ``schemas`` says which fields there are, ``manifest_parser`` gives
typed manifests, ``commands`` turns them into commands, ``manifest_writer`` goes back. Rules of the
domain are not repeated here: ``core.domain.configuration.decisions`` may still refuse a manifest
that is read.
"""
