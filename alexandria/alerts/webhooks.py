"""Signed requests, as the Standard Webhooks specification has them (https://www.standardwebhooks.com).

Nothing of an address but its host is logged or repeated: the rest may be a secret.
"""

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping

import httpx2
import msgspec
from django.conf import settings
from django.utils.crypto import salted_hmac

from alexandria.alerts.addresses import look_up
from alexandria.alerts.exceptions import AddressRefused, NotSent
from alexandria.alerts.models import Webhook
from alexandria.common.http import DeadlineTransport

SECONDS = 5.0
"""For all of a request, the look-up of the host included."""

MOST_OF_ANSWER = 1024
"""Bytes of an answer that are read."""
MOST_OF_ERROR = 200
"""Characters of it that are kept when it is not a success."""

PREFIX = "whsec_"


def secret_of(webhook: Webhook) -> str:
    """What the webhook's requests are signed with, in the form that its receiver gets. Never logged or stored."""
    return PREFIX + base64.b64encode(_key(webhook)).decode()


def signed_headers(webhook: Webhook, *, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """`timestamp`: seconds since 1970 at which this attempt is made."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    signature = base64.b64encode(hmac.digest(_key(webhook), signed, hashlib.sha256)).decode()
    return {"webhook-id": message_id, "webhook-timestamp": str(timestamp), "webhook-signature": f"v1,{signature}"}


def check_url(url: str, *, seconds: float = SECONDS) -> tuple[httpx2.URL, list[str]]:
    """The address, and the IP addresses of its host to which a request may go. Raises AddressRefused."""
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError) as error:
        raise AddressRefused("This is not an address such as https://hooks.example/alerts.") from error
    allowed = ["https", "http"] if settings.ALERT_WEBHOOKS_TO_PRIVATE else ["https"]
    if parsed.scheme not in allowed:
        raise AddressRefused(f"The address has to begin with {' or '.join(f'{scheme}://' for scheme in allowed)}.")
    if parsed.userinfo:
        raise AddressRefused("The address must be without user:password@.")
    if not parsed.host or parsed.fragment:
        raise AddressRefused("The address needs a host, and no #.")
    port = parsed.port or {"https": 443, "http": 80}[parsed.scheme]
    return parsed, look_up(parsed.raw_host.decode(), port, seconds=seconds)


def send(webhook: Webhook, *, message_id: str, payload: Mapping[str, object]) -> int:
    """Posts the payload once and returns the status of the answer, a success.

    Connects to the very address that was checked: a host that has another a moment later gains nothing. Redirects are
    not followed. Raises AddressRefused and NotSent.
    """
    deadline = time.monotonic() + SECONDS
    url, addresses = check_url(webhook.url)
    body = msgspec.json.encode(payload)
    headers = signed_headers(webhook, message_id=message_id, timestamp=int(time.time()), body=body)
    headers |= {
        "content-type": "application/json",
        "accept-encoding": "identity",
        "user-agent": f"Alexandria/{settings.SPECTACULAR_SETTINGS['VERSION']}",
        "connection": "close",
    }
    until = {"connect": deadline, "read": deadline, "write": deadline, "pool": SECONDS}
    request = httpx2.Request("POST", url, headers=headers, content=body, extensions={"timeout": until})
    with httpx2.Client(transport=DeadlineTransport(addresses), trust_env=False, follow_redirects=False) as client:
        try:
            answer = client.send(request, stream=True)
            text = _beginning(answer)
        except httpx2.TimeoutException as error:
            raise NotSent(f"No answer within {SECONDS:.0f} s.") from error
        except httpx2.RequestError as error:
            raise NotSent(f"{type(error).__name__}: {error}"[:MOST_OF_ERROR]) from error
    if answer.is_redirect:
        raise NotSent("Answered with a redirect, which is not followed.", status=answer.status_code)
    if not answer.is_success:
        raise NotSent(f"Answered with status {answer.status_code}: {text}", status=answer.status_code)
    return answer.status_code


def _key(webhook: Webhook) -> bytes:
    return salted_hmac("alerts.webhook", webhook.seed, algorithm="sha256").digest()


def _beginning(answer: httpx2.Response) -> str:
    """What the answer begins with, as printable text; the rest is never read."""
    read = b""
    for piece in answer.iter_raw(MOST_OF_ANSWER):
        read += piece
        if len(read) >= MOST_OF_ANSWER:
            break
    answer.close()
    text = read.decode(errors="replace")[:MOST_OF_ERROR]
    return "".join(letter if letter.isprintable() else " " for letter in text).strip()
