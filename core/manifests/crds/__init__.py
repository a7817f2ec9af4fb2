"""The CustomResourceDefinitions of the group, made from the typed models of ``kinds``.

    structural.py    a struct -> the structural schema that an API server takes
    definitions.py   the six kinds: names, scope, columns, subresources
                     (docs/reference/custom-resource-rules.md, "Kinds")

``orbctl crds`` prints them; the chart ``ops/charts/orbweaver-crds`` carries the same texts, and a
test holds the two together.
"""
