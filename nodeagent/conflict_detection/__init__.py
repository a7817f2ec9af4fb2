"""Who else uses an address, does its gateway answer, who must be told (docs/detection.md).

ethernet.py      the frame around everything
arp.py           ARP packets as bytes and back (RFC 826, RFC 5227)
ndp.py           neighbour solicitations and advertisements likewise (RFC 4861, RFC 4862)
languages.py     what is said and understood in each family
conversation.py  the state machine: times and frames in, frames and a finding out  (pure)
own.py           addresses of the node itself, which no link shows
wire.py          packet sockets in a Pod's network namespace
detector.py      one NIC, both families at once: the agent's entry
"""
