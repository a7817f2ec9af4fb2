"""Networks (SpiderMultusConfigs), and their injection into Pods. No I/O.

See docs/reference/admission.md, "SpiderMultusConfig" and "Pods".
"""
