"""The URLs and addresses that may be called, and the secrets that sign calls."""

import base64
import hmac

import pytest
from pydantic import ValidationError

from impasto.core.errors import BadParameter
from impasto.core.jobs.webhooks import MAX_URL, check_address, check_url, webhook_secret
from impasto.core.settings import Settings


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://localhost:1/",
        "http://10.1.2.3/x",
        "http://192.168.0.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[fd00::1]/",
        "http://0.0.0.0/",
        "http://2130706433/",
        "http://100.64.0.1/",
    ],
)
def test_private_addresses(url):
    with pytest.raises(BadParameter, match="private address"):
        check_url(url)
    check_url(url, private=True)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/",
        "example.org",
        "http://",
        "http://x:99999/",
        "http://[::1",
        "http://8.8.8.8/a b",
        "http://8.8.8.8/\tb",
        "http://8.8.8.8/\r\nHost: x",
        "http://8.8.8.8/\x00",
    ],
)
def test_text_that_is_not_a_url(url):
    with pytest.raises(BadParameter, match=r"not a.* URL"):
        check_url(url)


@pytest.mark.parametrize("host", ["a..example.org", "x" * 64 + ".example.org", "xn--\u00e9.example.org", "\u2100.org"])
def test_a_host_that_cannot_be_encoded(host):
    with pytest.raises(BadParameter, match=r"idna|NFKC"):
        check_url(f"http://{host}/", private=True)


def test_a_url_has_an_end():
    url = "http://8.8.8.8/"
    check_url(url + "x" * (MAX_URL - len(url)))
    with pytest.raises(BadParameter, match=r"2,049 characters. At most 2,048"):
        check_url(url + "x" * (MAX_URL - len(url) + 1))


def test_an_address_with_a_zone_is_checked_too():
    with pytest.raises(BadParameter, match="private"):
        check_address("fe80::1%eth0", 443)
    check_address("93.184.215.14", 8443)


def test_the_secret_of_a_key_known_on_paper():
    assert (
        webhook_secret("text") == webhook_secret("whsec_dGV4dA==") == webhook_secret("whsec_dGV4dA") == "whsec_dGV4dA=="
    )
    digest = hmac.digest(b"text", b"webhooks of the key ann", "sha256")
    assert webhook_secret("text", "ann") == "whsec_" + base64.b64encode(digest).decode()
    assert webhook_secret("text", "ann") != webhook_secret("text", "bob")


@pytest.mark.parametrize("secret", ["whsec_", "whsec_====", "whsec_abcde", "whsec_ab-d", "whsec_a b", "whsec_whsec_ab"])
def test_a_secret_that_cannot_be_decoded_is_refused_at_the_start(secret):
    with pytest.raises(ValidationError, match="must be followed by base64"):
        Settings(webhook_secret=secret)


@pytest.mark.parametrize("secret", ["", "text", "whsec_dGV4dA", "whsec_dGV4dA==", "not_whsec_!"])
def test_secrets(secret):
    assert Settings(webhook_secret=secret).webhook_secret == secret
