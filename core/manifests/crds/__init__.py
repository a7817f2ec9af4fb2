"""The CustomResourceDefinitions, made from the structs of ``core.manifests.kinds``.

    structural.py         makes the structural schema of a struct
    names_and_columns.py  the six kinds: names, scope, columns, subresources
                          (docs/reference/custom-resource-rules.md, "Kinds")
    sriov.py              the kinds of the SR-IOV network operator

The fields of a kind are in ``core.manifests.kinds``.
``orbctl crds`` prints them; the chart ``ops/charts/orbweaver-crds`` has the same texts, and a test
compares the two.
"""
