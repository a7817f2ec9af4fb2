"""The webhooks' certificate by each method: provided, certmanager and auto."""

from __future__ import annotations

from tests.chart.rendering import Object, find, objects

SECRET = "orbweaver-controller-server-certs"


def test_provided_files_are_in_the_secret_and_the_webhooks_trust_their_authority() -> None:
    among = objects(tls(method="provided", provided=pem()))
    webhooks = find("ValidatingWebhookConfiguration", "spiderpool-controller", among)["webhooks"]

    assert find("Secret", SECRET, among)["data"] == {
        "tls.crt": "Y2VydA==",
        "tls.key": "a2V5",
        "ca.crt": "Y2E=",
    }
    assert {each["clientConfig"]["caBundle"] for each in webhooks} == {"Y2E="}


def test_cert_manager_without_an_issuer_uses_a_self_signed_authority() -> None:
    among = objects(tls(method="certmanager", certmanager={"certValidityDuration": 90}))
    certificate = find("Certificate", SECRET, among)["spec"]
    issuer = find("Issuer", certificate["issuerRef"]["name"], among)["spec"]
    authority = find("Certificate", issuer["ca"]["secretName"], among)["spec"]

    assert certificate["duration"] == "2160h"
    assert authority["isCA"] is True
    assert find("Issuer", authority["issuerRef"]["name"], among)["spec"] == {"selfSigned": {}}


def test_extra_names_of_the_certificate_are_passed_to_the_controllers() -> None:
    names = {"extraDnsNames": ["a.example.com"], "extraIpAddresses": ["192.0.2.7"]}
    deployment = find("Deployment", "orbweaver-controller", objects(tls(auto=names)))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]

    assert {"name": "ORBWEAVER_TLS_EXTRA_NAMES", "value": "a.example.com,192.0.2.7"} in container[
        "env"
    ]


def tls(**values: object) -> Object:
    """Chart values with these settings of the webhooks' certificate."""
    return {"spiderpoolController": {"tls": values}}


def pem() -> dict[str, str]:
    """The three files in base64; their texts are "cert", "key" and "ca"."""
    return {"tlsCert": "Y2VydA==", "tlsKey": "a2V5", "tlsCa": "Y2E="}
