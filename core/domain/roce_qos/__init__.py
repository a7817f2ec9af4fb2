"""RoCE quality of service: rules for the NICs of nodes, and the plan of a node."""
