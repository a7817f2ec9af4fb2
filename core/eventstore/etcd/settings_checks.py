"""Validate a user's settings for etcd; an error names the setting.

Each program passes its names of the settings for error messages: keys of a file, environment
variables or options.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from core.errors import BadInput
from core.eventstore.etcd.settings import EtcdSettings

ETCD_ENDPOINT = "127.0.0.1:2379"

ENDPOINTS_MAX = 32

PASSWORD_BYTES_MAX = 4_096


class Access(NamedTuple):
    """One text for each setting: its value ("" if not set), or its name in errors.

    The value of ``endpoints`` is a list with commas.
    """

    endpoints: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    user: str = ""
    password_file: str = ""


def etcd_settings(values: Access, password: str, names: Access) -> EtcdSettings:
    """``password`` takes precedence over the password file.

    Raises BadInput, whose ``subject`` is one of ``names``.
    """
    endpoints = tuple(text.strip() for text in values.endpoints.split(","))
    if not all(endpoints) or len(endpoints) > ENDPOINTS_MAX:
        raise BadInput(
            f"{values.endpoints[:64]!r} is not a list of 1 to {ENDPOINTS_MAX} etcd endpoints",
            subject=names.endpoints,
            remedy="write each endpoint as host:port, with commas between them",
        )
    if bool(values.cert_file) != bool(values.key_file):
        raise BadInput(
            f"only one of {names.cert_file} and {names.key_file} is set",
            subject=names.cert_file,
            remedy="set both, or neither",
        )
    for field in ("ca_file", "cert_file", "key_file"):
        path = getattr(values, field)
        if path and not Path(path).is_file():
            name = getattr(names, field)
            raise BadInput(
                f"{path} is not a file", subject=name, remedy="give the path of a PEM file"
            )
    if not password and values.password_file:
        password = _read_password(values.password_file, names.password_file)
    if values.user and not password:
        raise BadInput(
            f"etcd user {values.user} has no password",
            subject=names.password_file,
            remedy=f"set {names.password_file} to the path of a file with the password, or set"
            " ORBWEAVER_ETCD_PASSWORD",
        )
    return EtcdSettings(
        endpoints, values.ca_file, values.cert_file, values.key_file, values.user, password
    )


def _read_password(path: str, name: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return file.read(PASSWORD_BYTES_MAX).decode().strip()
    except OSError as error:
        raise BadInput(
            f"cannot read the password file {path}: {error.strerror}",
            subject=name,
            remedy="give the path of a file that this process may read",
        ) from None
    except UnicodeDecodeError:
        raise BadInput(
            f"the password file {path} is not UTF-8 text",
            subject=name,
            remedy="give the path of a file that has only the password",
        ) from None
