"""What a person runs on a node: the doctor and the trace of a packet's path."""
