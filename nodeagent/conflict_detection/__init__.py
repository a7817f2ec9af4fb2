"""Who else uses an address, does its gateway answer, who must be told.

See docs/concepts/conflict-detection.md.

ethernet.py      the frame around everything
arp.py           ARP packets as bytes and back (RFC 826, RFC 5227)
ndp.py           neighbour solicitations and advertisements likewise (RFC 4861, RFC 4862)
probe_codecs.py     what is said and understood in each family
probe_session.py  the state machine: times and frames in, frames and a finding out  (pure)
local_addresses.py           addresses of the node itself, which no link shows
packet_socket.py          packet sockets in a Pod's network namespace
detector.py      one NIC, both families at once: the agent's entry
"""
