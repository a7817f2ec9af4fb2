"""Claims: decide what an ADD, a DEL, an assignment or a takeover changes in an endpoint. Pure."""
