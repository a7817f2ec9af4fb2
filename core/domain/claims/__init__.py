"""Claims: what an ADD, a DEL, an assignment and a take-over mean for an endpoint. Pure."""
