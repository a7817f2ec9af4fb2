"""What conf.yml says of the network provider: the same to agents and controllers."""

from __future__ import annotations

from core.allocation.provider_settings import ProviderSettings, provider_settings
from nodeagent.settings.conf_file import ConfFile


def provider_of(conf: ConfFile) -> ProviderSettings | None:
    """None without one. Raises BadInput, its subject the key."""
    return provider_settings(
        conf.provider.server_url,
        conf.provider.request_timeout,
        verify_tls=conf.orbweaver.provider_verify_tls,
        ca_file=conf.orbweaver.provider_ca_file,
    )
