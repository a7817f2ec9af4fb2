"""The YAML of the custom resources and of records (Pod, Node, ...) <-> domain values.

``documents`` reads bounded YAML, ``schemas`` says which fields there are, ``reading`` gives typed
manifests, ``commands`` turns them into commands, ``writing`` goes back. Rules of the domain are not
repeated here: a manifest that can be read may still be refused by ``core.domain.decisions``.
"""
