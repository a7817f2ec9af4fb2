"""Settings of both agents and controllers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final, get_args

from core.allocation.cooldown import COOL_DOWN_S
from core.allocation.provider_settings import ProviderSettings, provider_settings
from core.domain.addresses.choice import AddressOrder
from core.errors import BadInput
from core.process.environment import EnvironmentVariables
from core.settings.conf_file import COOL_DOWN_S_MAX, ConfFile, OrbweaverConf

CONF_PATH: Final = "/tmp/spiderpool/config-map/conf.yml"  # noqa: S108  # docs/reference/configuration.md, "conf.yml"
CONF_NAME: Final = "conf.yml"
ADDRESS_ORDER: Final = "ORBWEAVER_ADDRESS_ORDER"
DAEMON: Final = "daemon"
"""The command in Spiderpool's command lines; our programs accept it, and do not require it."""


def add_daemon_options(parser: argparse.ArgumentParser) -> None:
    """Add Spiderpool's options for conf.yml: its path, or its folder (Spiderpool 1.0)."""
    text = "Run the daemon, which is the default; Spiderpool's command lines name it."
    parser.add_argument("command", nargs="?", choices=[DAEMON], help=text)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--config-path", default=CONF_PATH, help="The file conf.yml.")
    group.add_argument("--config-dir", default="", help="The folder of conf.yml.")


def conf_path(options: argparse.Namespace) -> str:
    """The path of conf.yml that these options name."""
    folder: str = options.config_dir
    path: str = options.config_path
    return str(Path(folder) / CONF_NAME) if folder else path


def address_order(conf: OrbweaverConf, env: EnvironmentVariables) -> AddressOrder:
    """The order in which a pool's addresses are tried. Raises BadInput."""
    order = env.text(ADDRESS_ORDER, conf.address_order or "spread")
    for supported in get_args(AddressOrder):
        if order == supported:
            return supported  # type: ignore[no-any-return]  # get_args returns Any
    # Only the variable can be wrong: the reader of conf.yml checks ``addressOrder``.
    raise BadInput(
        f"{ADDRESS_ORDER} {order[:64]!r} is not an address order",
        subject=ADDRESS_ORDER,
        remedy=f"set it to {' or '.join(get_args(AddressOrder))}",
    )


def cool_down_s(conf: OrbweaverConf, env: EnvironmentVariables) -> int:
    """The cool-down of released addresses in seconds. Raises BadInput.

    The default is 0 for sequential order, whose users expect the lowest free address.
    """
    default = 0 if address_order(conf, env) == "sequential" else COOL_DOWN_S
    seconds = default if conf.cool_down_seconds is None else conf.cool_down_seconds
    return env.number("ORBWEAVER_COOL_DOWN_SECONDS", seconds, COOL_DOWN_S_MAX)


def traces_endpoint(conf: OrbweaverConf, env: EnvironmentVariables) -> str:
    """The OTLP endpoint to which spans are sent; "" for none. Raises BadInput.

    OpenTelemetry's endpoints are used only if Orbweaver's settings have none.
    OTEL_SDK_DISABLED=true and OTEL_TRACES_EXPORTER=none always disable traces.
    """
    exporter = env.text("OTEL_TRACES_EXPORTER", "otlp")
    if exporter == "none" or env.boolean("OTEL_SDK_DISABLED", default=False):
        return ""
    if exporter != "otlp":
        raise BadInput(
            f"OTEL_TRACES_EXPORTER {exporter[:64]!r} is not supported",
            subject="OTEL_TRACES_EXPORTER",
            remedy="use otlp or none",
        )
    otel_all = env.text("OTEL_EXPORTER_OTLP_ENDPOINT")
    otel_traces = env.text("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", otel_all)
    return env.text("ORBWEAVER_TRACES_ENDPOINT", conf.traces_endpoint or otel_traces)


def provider_of(conf: ConfFile) -> ProviderSettings | None:
    """The network provider in conf.yml; None if conf.yml has none. Raises BadInput."""
    return provider_settings(
        conf.provider.server_url,
        conf.provider.request_timeout,
        verify_tls=conf.orbweaver.provider_verify_tls,
        ca_file=conf.orbweaver.provider_ca_file,
    )
