"""Where a webhook may lead: no address of a private network passes, in whatever form it is written."""

import ipaddress
import re

import pytest

from halfdrop.contracts.errors import InvalidInput
from halfdrop.edge.webhooks.addresses import (
    HTTPS_PATTERN,
    AddressPolicy,
    check_address,
    endpoint_of,
    is_public,
)

CLOSED = AddressPolicy()
LOCAL = AddressPolicy(is_loopback_allowed=True)
PRIVATE = AddressPolicy(is_private_allowed=True, is_http_allowed=True)

FORBIDDEN = (
    "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.0.1", "169.254.169.254",
    "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1",
    "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::10.0.0.1", "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::1", "2002:a00:1::1", "2001:0:4136:e378:8000:63bf:f5ff:fffe",
    "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1", "2001:db8::1", "100::1",
)  # fmt: skip

PUBLIC = ("8.8.8.8", "93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "64:ff9b::808:808", "::ffff:8.8.8.8")


@pytest.mark.parametrize("text", FORBIDDEN)
def test_addresses_of_no_public_server_are_refused(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))
    assert not CLOSED.admits(ipaddress.ip_address(text))
    host = f"[{text}]" if ":" in text else text
    with pytest.raises(InvalidInput, match="private"):
        check_address(f"https://{host}/hook", CLOSED)


@pytest.mark.parametrize("text", PUBLIC)
def test_addresses_of_public_servers_are_admitted(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))
    host = f"[{text}]" if ":" in text else text
    assert check_address(f"https://{host}:8443/hook", CLOSED)


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0x7f.1", "127.1", "0177.0.0.1", "10.1", "0"])
def test_numbers_that_resolvers_read_as_addresses_are_read_so(host: str) -> None:
    with pytest.raises(InvalidInput, match="private"):
        check_address(f"https://{host}/", CLOSED)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com", "example.com", "https://", "https://user:secret@example.com", "https://example.com/ ",
        "https://example.com\n", "https://example.com#part", "https://-a.com/", "https://a..com/", "https://a.com./",
        "https://example.com:22/", "https://example.com:1023/", "https://example.com:65536/", "https://example.com:0/",
        "https://printer.local/", "https://db.internal/", "https://1.2.3.4.5/", "https://example.123/", "https://ex_a.com/",
        "https://example.com/" + "a" * 2_000, "http://example.com/", "https://localhost/", "https://a.localhost/",
        "https://[fe80::1%25eth0]/", "https://exämple.com/",
    ],
)  # fmt: skip
def test_what_is_no_public_https_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        check_address(url, CLOSED)


@pytest.mark.parametrize(
    "url", ["https://example.com", "https://a.b.example.com:1024/x?y=z&t=1", "HTTPS".lower() + "://x-1.io"]
)
def test_what_the_description_says_is_taken(url: str) -> None:
    assert check_address(url, CLOSED) == url
    assert re.fullmatch(HTTPS_PATTERN, url)


def test_an_open_edge_delivers_to_its_own_machine_over_http_and_to_no_other_private_one() -> None:
    for url in ("http://127.0.0.1:8000/", "http://localhost:8000/", "http://[::1]:8000/", "https://127.0.0.1/"):
        assert check_address(url, LOCAL)
    for url in ("http://10.0.0.1/", "http://example.com/", "https://192.168.1.1/", "https://169.254.169.254/"):
        with pytest.raises(InvalidInput):
            check_address(url, LOCAL)
    assert LOCAL.admits(ipaddress.ip_address("::ffff:127.0.0.1"))
    assert not LOCAL.admits(ipaddress.ip_address("10.0.0.1"))
    assert not LOCAL.admits(ipaddress.ip_address("0.0.0.0"))


def test_a_closed_network_may_be_opened_and_multicast_stays_shut() -> None:
    for url in ("http://10.0.0.1/", "http://printer.local:8080/", "http://localhost/"):
        assert check_address(url, PRIVATE)
    for text in ("224.0.0.1", "0.0.0.0", "ff02::1"):
        assert not PRIVATE.admits(ipaddress.ip_address(text))


def test_an_endpoint_is_a_server_of_a_tenant_without_the_path() -> None:
    one = endpoint_of("acme", "https://Example.com/a?token=1")
    assert one == endpoint_of("acme", "https://example.com:443/b")
    assert one != endpoint_of("bolt", "https://example.com/a")
    assert one.origin == "https://example.com:443"
    assert endpoint_of("acme", "http://[::1]/").origin == "http://[::1]:80"
