"""A node made ready, and what it can do (docs/node.md).

sysctls.py    what the agent sets at its start, and how it is now
nics.py       interfaces that Pods can stand on
kernel_features.py  what the kernel can, tried in a namespace that is thrown away
manager.py    NetworkManager, which must leave Pods' interfaces alone
examination.py  all of it together, with who answers for the gateways
diagnosis.py    diagnoses with remedies out of what was found  (pure)
"""
