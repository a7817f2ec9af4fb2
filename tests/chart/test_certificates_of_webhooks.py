"""The certificate of the webhooks for each ``tls.method``: provided, certmanager and auto."""

from __future__ import annotations

from tests.chart.rendering import Object, find_object, render_objects

SECRET_NAME = "orbweaver-controller-server-certs"


def test_provided_certificates_are_in_the_secret_and_the_webhooks() -> None:
    rendered = render_objects(tls(method="provided", provided=pem()))
    webhooks = find_object("ValidatingWebhookConfiguration", "spiderpool-controller", rendered)[
        "webhooks"
    ]

    assert find_object("Secret", SECRET_NAME, rendered)["data"] == {
        "tls.crt": "Y2VydA==",
        "tls.key": "a2V5",
        "ca.crt": "Y2E=",
    }
    assert {webhook["clientConfig"]["caBundle"] for webhook in webhooks} == {"Y2E="}


def test_cert_manager_without_an_issuer_uses_a_self_signed_authority() -> None:
    rendered = render_objects(tls(method="certmanager", certmanager={"certValidityDuration": 90}))
    certificate = find_object("Certificate", SECRET_NAME, rendered)["spec"]
    issuer = find_object("Issuer", certificate["issuerRef"]["name"], rendered)["spec"]
    authority = find_object("Certificate", issuer["ca"]["secretName"], rendered)["spec"]

    assert certificate["duration"] == "2160h"  # 90 days
    assert authority["isCA"] is True
    assert find_object("Issuer", authority["issuerRef"]["name"], rendered)["spec"] == {
        "selfSigned": {}
    }


def test_extra_dns_names_and_addresses_are_in_one_variable_of_controllers() -> None:
    names = {"extraDnsNames": ["a.example.com"], "extraIpAddresses": ["192.0.2.7"]}
    deployment = find_object("Deployment", "orbweaver-controller", render_objects(tls(auto=names)))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]

    assert {"name": "ORBWEAVER_TLS_EXTRA_NAMES", "value": "a.example.com,192.0.2.7"} in container[
        "env"
    ]


def tls(**values: object) -> Object:
    return {"spiderpoolController": {"tls": values}}


def pem() -> dict[str, str]:
    """The texts "cert", "key" and "ca" in base64."""
    return {"tlsCert": "Y2VydA==", "tlsKey": "a2V5", "tlsCa": "Y2E="}
