"""Conflict and gateway detection, and address announcements.

See docs/concepts/conflict-detection.md.

ethernet.py         the Ethernet header of all frames
arp.py              encodes and decodes ARP packets (RFC 826, RFC 5227)
ndp.py              encodes and decodes neighbour discovery messages (RFC 4861, RFC 4862)
probe_codecs.py     probes and announcements of each family
probe_schedule.py   when the frames of a probe are sent  (pure)
probe_session.py    the state machine of one probe  (pure)
packet_socket.py    packet sockets in a Pod's network namespace
detector.py         probes one NIC for both families; the agent calls it
"""
