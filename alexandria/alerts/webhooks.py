"""Sends signed requests, as the Standard Webhooks specification defines them (https://www.standardwebhooks.com).

Logs and messages name only the host of an address, because the rest can be secret.
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

from alexandria.alerts.exceptions import NotSent
from alexandria.alerts.models import Webhook
from alexandria.common.addresses import check_url
from alexandria.common.http import DeadlineTransport, certificate_error

MAX_SECONDS = 5.0
"""For the whole request, including the look-up of the host."""

MAX_ANSWER_BYTES = 1024
"""How much of an answer is read."""
MAX_ERROR_CHARACTERS = 200
"""How much of an error is kept."""

PREFIX = "whsec_"


def secret_of(webhook: Webhook) -> str:
    """The signing secret, in the form that the receiver gets. It is never logged or stored."""
    return PREFIX + base64.b64encode(_key(webhook)).decode()


def signed_headers(webhook: Webhook, *, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """`timestamp`: the time of this attempt, in seconds since 1970."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    signature = base64.b64encode(hmac.digest(_key(webhook), signed, hashlib.sha256)).decode()
    return {"webhook-id": message_id, "webhook-timestamp": str(timestamp), "webhook-signature": f"v1,{signature}"}


def send(webhook: Webhook, *, message_id: str, payload: Mapping[str, object], url: str = "") -> int:
    """Posts the payload once and returns the status of the answer, which is 2xx.

    `url`: another address than that of the webhook, whose secret still signs the request.
    Connects to the IP address that was checked, so a host cannot change its address after the check. Follows no
    redirect. Raises AddressRefused and NotSent.
    """
    deadline = time.monotonic() + MAX_SECONDS
    address, ips = check_url(url or webhook.url)
    body = msgspec.json.encode(payload)
    headers = signed_headers(webhook, message_id=message_id, timestamp=int(time.time()), body=body)
    headers |= {
        "content-type": "application/json",
        "accept-encoding": "identity",
        "user-agent": f"Alexandria/{settings.SPECTACULAR_SETTINGS['VERSION']}",
        "connection": "close",
    }
    until = {"connect": deadline, "read": deadline, "write": deadline, "pool": MAX_SECONDS}
    request = httpx2.Request("POST", address, headers=headers, content=body, extensions={"timeout": until})
    with httpx2.Client(transport=DeadlineTransport(ips), trust_env=False, follow_redirects=False) as client:
        try:
            answer = client.send(request, stream=True)
            text = _beginning(answer)
        except httpx2.TimeoutException as error:
            raise NotSent(f"No answer within {MAX_SECONDS:.0f} s.") from error
        except httpx2.RequestError as error:
            why = certificate_error(error) or f"{type(error).__name__}: {error}"
            raise NotSent(f"{address.host}: {why}"[:MAX_ERROR_CHARACTERS]) from error
    if answer.is_redirect:
        raise NotSent("The receiver answered with a redirect. Redirects are not followed.", status=answer.status_code)
    if not answer.is_success:
        raise NotSent(f"The receiver answered with status {answer.status_code}: {text}", status=answer.status_code)
    return answer.status_code


def _key(webhook: Webhook) -> bytes:
    return salted_hmac("alerts.webhook", webhook.seed, algorithm="sha256").digest()


def _beginning(answer: httpx2.Response) -> str:
    """The beginning of the answer as printable text. The rest is not read."""
    read = b""
    for piece in answer.iter_raw(MAX_ANSWER_BYTES):
        read += piece
        if len(read) >= MAX_ANSWER_BYTES:
            break
    answer.close()
    text = read.decode(errors="replace")[:MAX_ERROR_CHARACTERS]
    return "".join(letter if letter.isprintable() else " " for letter in text).strip()
