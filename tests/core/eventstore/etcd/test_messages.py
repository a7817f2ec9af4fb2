"""Our message classes have the field numbers and types of etcd's definition."""

from __future__ import annotations

import subprocess
import sys

import pytest
from etcd3.etcdrpc import auth_pb2, kv_pb2, rpc_pb2
from google.protobuf.descriptor import FieldDescriptor

from core.eventstore.etcd import messages

NEWER_FIELDS = {("StatusResponse", "errors")}
"""Fields that etcd added in 3.4 or later, so the package etcd3 lacks them."""

ETCD3_MESSAGES = {
    name: message
    for file in (rpc_pb2, kv_pb2, auth_pb2)
    for name, message in file.DESCRIPTOR.message_types_by_name.items()
}


def field_definition(field: FieldDescriptor) -> tuple[int, bool, str]:
    """Return the field's number, whether it is repeated, and its type (int32 for enumerations)."""
    if field.message_type is not None:
        kind = str(field.message_type.name)
    elif field.type == FieldDescriptor.TYPE_ENUM:
        kind = str(FieldDescriptor.TYPE_INT32)
    else:
        kind = str(field.type)
    return field.number, field.is_repeated, kind


@pytest.mark.parametrize("name", sorted(messages.CLASSES))
def test_message_fields_have_the_numbers_and_types_of_etcd(name: str) -> None:
    our_fields = messages.CLASSES[name].DESCRIPTOR.fields_by_name
    if name == "EmptyResponse":  # our class for answers whose fields are not read
        assert not our_fields
        return
    etcd3_fields = ETCD3_MESSAGES[name].fields_by_name
    for field_name, field in our_fields.items():
        if (name, field_name) not in NEWER_FIELDS:
            assert field_definition(field) == field_definition(etcd3_fields[field_name]), field_name


def test_the_client_does_not_load_grpcio() -> None:
    program = (
        "import sys, core.eventstore.etcd; print('grpc' in sys.modules, 'etcd3' in sys.modules)"
    )
    completed = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )

    assert completed.stdout == "False False\n"
