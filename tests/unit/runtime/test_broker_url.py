"""Whom a NATS URL says to believe: a file of certificates behind `?ca=`, and what is wrong with it in a sentence."""

import ssl
from pathlib import Path

import pytest

from halfdrop.contracts.errors import InvalidInput
from halfdrop.runtime.broker import read_authority

SHIPPED = ssl.get_default_verify_paths().cafile


def test_without_an_authority_a_url_is_left_as_it_is() -> None:
    for url in ("nats://127.0.0.1:4222", "tls://hub:word@nats.example.com:4222"):
        assert read_authority(url) == (url, None)


@pytest.mark.skipif(SHIPPED is None, reason="this machine has no file of certificates to read")
def test_an_authority_takes_the_place_of_the_systems() -> None:
    url, context = read_authority(f"tls://hub:word@nats.example.com:4222?ca={SHIPPED}")
    assert url == "tls://hub:word@nats.example.com:4222"
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.get_ca_certs()


@pytest.mark.parametrize("scheme", ["nats", "tls"])
def test_what_is_no_authority_is_refused_without_the_password(tmp_path: Path, scheme: str) -> None:
    (tmp_path / "ca.crt").write_text("no certificate")
    for path in (tmp_path / "ca.crt", tmp_path / "missing.crt"):
        with pytest.raises(InvalidInput, match=r"certificates in PEM") as caught:
            read_authority(f"{scheme}://hub:s3cret@nats.example.com:4222?ca={path}")
        assert "s3cret" not in str(caught.value)
