"""Executes the ``helm`` commands of the documents with Helm's SDK.

    python -m tests.installation.helm_program install orbweaver ops/charts/orbweaver -n orbweaver

``helm`` is neither on PyPI nor in Debian. The variable ``KUBECONFIG`` is required.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from helm_python import Config, parse_set_string, values_from_yaml

TIMEOUT_S: Final = 300
"""Helm's default."""


def main(arguments: list[str]) -> None:
    options = parser().parse_args(arguments)
    with Config(kubeconfig_path=os.environ["KUBECONFIG"], namespace=options.namespace) as config:
        sys.stdout.write(f"{COMMANDS[options.command](config, options)}\n")


def parser() -> argparse.ArgumentParser:
    """The parser refuses options that the documents do not use."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-n", "--namespace", default="default")
    common.add_argument("name")
    values = argparse.ArgumentParser(add_help=False)
    values.add_argument("chart")
    values.add_argument("-f", "--values", action="append", default=[])
    values.add_argument("--set", action="append", default=[])
    helm_parser = argparse.ArgumentParser(prog="helm")
    commands = helm_parser.add_subparsers(dest="command", required=True)
    install = commands.add_parser("install", parents=[common, values])
    install.add_argument("--create-namespace", action="store_true")
    upgrade = commands.add_parser("upgrade", parents=[common, values])
    values_mode = upgrade.add_mutually_exclusive_group()
    values_mode.add_argument("--reuse-values", action="store_true")
    values_mode.add_argument("--reset-then-reuse-values", action="store_true")
    upgrade.add_argument("--no-hooks", action="store_true")
    commands.add_parser("rollback", parents=[common]).add_argument("revision", nargs="?", type=int)
    commands.add_parser("test", parents=[common])
    uninstall = commands.add_parser("uninstall", parents=[common])
    uninstall.add_argument("--no-hooks", action="store_true")
    return helm_parser


def _install(config: Config, options: argparse.Namespace) -> object:
    release = config.install(
        options.chart,
        options.name,
        _values(options),
        namespace=options.namespace,
        create_namespace=options.create_namespace,
        timeout=TIMEOUT_S,
        wait="hookOnly",
    )
    return _notes(release)


def _upgrade(config: Config, options: argparse.Namespace) -> object:
    with tempfile.TemporaryDirectory() as directory:
        chart = Path(options.chart)
        if options.no_hooks:
            chart = _without_upgrade_hooks(chart, Path(directory) / "chart")
        return _upgrade_to(config, options, chart)


def _upgrade_to(config: Config, options: argparse.Namespace, chart: Path) -> object:
    values = _values(options)
    if options.reset_then_reuse_values:  # the SDK has no such option
        values = _merged(config.get_values(options.name), values)
    release = config.upgrade(
        str(chart),
        options.name,
        values,
        namespace=options.namespace,
        reset_values=options.reset_then_reuse_values,
        reuse_values=options.reuse_values,
        timeout=TIMEOUT_S,
        wait="hookOnly",
    )
    return _notes(release)


def _rollback(config: Config, options: argparse.Namespace) -> object:
    config.rollback(options.name, version=options.revision, timeout=TIMEOUT_S, wait="hookOnly")
    return "Rollback was a success!"


def _test(config: Config, options: argparse.Namespace) -> object:
    return config.test(options.name, timeout=TIMEOUT_S)


def _uninstall(config: Config, options: argparse.Namespace) -> object:
    if options.no_hooks:
        _forget_hooks(options)
    config.uninstall(options.name, timeout=TIMEOUT_S, wait="hookOnly")
    return f'release "{options.name}" uninstalled'


def _without_upgrade_hooks(chart: Path, copy: Path) -> Path:
    """Copy the chart without upgrade hooks: the SDK cannot skip hooks."""
    shutil.copytree(chart, copy)
    for template in (copy / "templates").rglob("*.yaml"):
        if "post-upgrade" in (text := template.read_text()) or "pre-upgrade" in text:
            template.unlink()
    return copy


def _forget_hooks(options: argparse.Namespace) -> None:
    """Remove the hooks from the stored release: the SDK cannot skip hooks."""
    labels = f"owner=helm,name={options.name}"
    secrets = ["kubectl", "-n", options.namespace, "get", "secrets", "-l", labels, "-o", "json"]
    revisions = json.loads(subprocess.check_output(secrets))["items"]
    secret = max(revisions, key=lambda revision: int(revision["metadata"]["labels"]["version"]))
    release = json.loads(gzip.decompress(b64decode(b64decode(secret["data"]["release"]))))
    packed = gzip.compress(json.dumps(release | {"hooks": []}).encode())
    secret["data"]["release"] = b64encode(b64encode(packed)).decode()
    replace = ["kubectl", "replace", "-f", "-"]
    subprocess.run(replace, input=json.dumps(secret), text=True, check=True, capture_output=True)


def _values(options: argparse.Namespace) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for file in options.values:
        values = _merged(values, values_from_yaml(Path(file).read_text("utf-8")))
    for expression in options.set:
        values = _merged(values, parse_set_string(expression))
    return values


def _merged(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for name, value in overrides.items():
        old = merged.get(name)
        if isinstance(value, dict) and isinstance(old, dict):
            merged[name] = _merged(old, value)
        else:
            merged[name] = value
    return merged


def _notes(release: Any) -> object:
    return release.get("notes") or release


COMMANDS: Final[Mapping[str, Callable[[Config, argparse.Namespace], object]]] = {
    "install": _install,
    "upgrade": _upgrade,
    "rollback": _rollback,
    "test": _test,
    "uninstall": _uninstall,
}

if __name__ == "__main__":
    main(sys.argv[1:])
