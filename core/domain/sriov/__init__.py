"""SR-IOV: policies for virtual functions, and the plan of a node."""
