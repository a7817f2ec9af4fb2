"""What every test shares: how hypothesis searches. Fixtures live beside the behaviour they serve.

A missing program (etcd, containerd) fails a test rather than skipping it: a green run means that
everything was tried.
"""

from __future__ import annotations

import os

from hypothesis import settings

# No deadline: how long a machine takes is no behaviour. In CI the same examples every time, so
# that a red run is about the change; at a desk new ones, so that the search goes on.
settings.register_profile("desk", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")
