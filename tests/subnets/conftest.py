"""Both stores: the one in memory, and a real etcd that these tests share."""

from __future__ import annotations
