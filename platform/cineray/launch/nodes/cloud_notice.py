"""What a cloud says of the machine that we are on: its metadata address is asked, a notice that it will be taken away
comes out, or none.

    aws     GET  latest/meta-data/spot/instance-action   with a session token (IMDSv2); 404 while there is none
    gcp     GET  computeMetadata/v1/instance/preempted   TRUE or FALSE
    azure   GET  metadata/scheduledevents                events of the whole set of machines; only our own count

Answers are data from outside: bounded in size and time, never followed elsewhere, never through a proxy, and refused
with what was wanted when they have another form.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

from cineray.errors import CinerayError

LINK_LOCAL = "http://169.254.169.254"
"""Where all three clouds answer; each machine has its own."""
ANSWER_SECONDS = 2.0
_MOST_BYTES = 1 << 16
_AWS_TOKEN_SECONDS = 21600
GCP_NOTICE_SECONDS = 30.0
"""GCP tells no time: the machine has half a minute from the moment that it says TRUE."""
NO_TIME_SECONDS = 30.0
"""Where an event has no time of its own, it is meant to be now."""


class MetadataSilent(CinerayError):
    """The cloud's metadata address did not answer, or not as that cloud does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """This machine will be taken away."""

    cloud: str
    what: str
    deadline: float
    """Unix seconds."""

    def seconds_left(self, now: float | None = None) -> float:
        """Until the deadline; never negative."""
        return max(self.deadline - (time.time() if now is None else now), 0.0)


class Notices(Protocol):
    """One cloud."""

    def notice(self) -> Notice | None:
        """Ask once. Raises `MetadataSilent` where nobody answers."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a metadata address said."""

    status: int
    headers: Mapping[str, str]
    text: str


class Metadata:
    """An address that is asked."""

    def __init__(self, url: str = LINK_LOCAL) -> None:
        self.url = url.rstrip("/")
        # No proxy: it would be asked for its own metadata, not for ours.
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect()).open

    def ask(self, path: str, headers: Mapping[str, str], method: str = "GET") -> Answer:
        """Any status is an answer; no answer at all is `MetadataSilent`."""
        request = urllib.request.Request(f"{self.url}/{path}", headers=dict(headers), method=method)  # noqa: S310
        try:
            with self._open(request, timeout=ANSWER_SECONDS) as found:
                return Answer(found.status, dict(found.headers), found.read(_MOST_BYTES).decode("utf-8", "replace"))
        except urllib.error.HTTPError as error:
            return Answer(error.code, dict(error.headers), error.read(_MOST_BYTES).decode("utf-8", "replace"))
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise MetadataSilent(f"{self.url}/{path} did not answer within {ANSWER_SECONDS:g} s: {error}") from error


class AwsNotices:
    """EC2, by version 2 of its metadata service; version 1, which needs no token, is not used."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata, self._token = metadata, ""

    def notice(self) -> Notice | None:
        """`{"action": "terminate", "time": "2026-11-21T10:02:00Z"}`, two minutes before."""
        found = self._get("latest/meta-data/spot/instance-action")
        if found.status == 404:
            return None
        told = _json_object("aws", found)
        action, at = told.get("action"), told.get("time")
        if not isinstance(action, str) or not isinstance(at, str):
            raise MetadataSilent(f"aws said {found.text[:200]!r}; wanted an object with `action` and `time`")
        return Notice(cloud="aws", what=f"spot {action}", deadline=_iso_seconds(at))

    def _get(self, path: str) -> Answer:
        found = self._asked(path)
        if found.status == 401:  # the token is too old
            self._token = ""
            found = self._asked(path)
        return _answered("aws", found, {200, 404})

    def _asked(self, path: str) -> Answer:
        if not self._token:
            lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": str(_AWS_TOKEN_SECONDS)}
            self._token = _answered("aws", self._metadata.ask("latest/api/token", lifetime, "PUT"), {200}).text
        return self._metadata.ask(path, {"X-aws-ec2-metadata-token": self._token})


class GcpNotices:
    """Compute Engine."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata

    def notice(self) -> Notice | None:
        """`TRUE` from half a minute before."""
        asked = self._metadata.ask("computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"})
        found = _answered("gcp", asked, {200})
        if found.headers.get("Metadata-Flavor") != "Google" or found.text.strip() not in {"TRUE", "FALSE"}:
            raise MetadataSilent(f"{self._metadata.url} said {found.text[:200]!r}; wanted TRUE or FALSE, from Google")
        if found.text.strip() == "FALSE":
            return None
        return Notice(cloud="gcp", what="preempted", deadline=time.time() + GCP_NOTICE_SECONDS)


class AzureNotices:
    """Azure's scheduled events; the first question may take two minutes, while Azure switches them on."""

    _EVENTS = "metadata/scheduledevents?api-version=2020-07-01"
    _NAME = "metadata/instance/compute/name?api-version=2021-02-01&format=text"
    _LEAVING = frozenset({"Preempt", "Terminate"})

    def __init__(self, metadata: Metadata) -> None:
        self._metadata, self._name = metadata, ""

    def notice(self) -> Notice | None:
        """The first event that takes this machine away; others in the set have events of theirs."""
        self._name = self._name or self._ask(self._NAME).text.strip()
        events = _json_object("azure", self._ask(self._EVENTS)).get("Events", [])
        for event in events if isinstance(events, list) else []:
            if not isinstance(event, dict):
                continue
            if event.get("EventType") in self._LEAVING and self._name in (event.get("Resources") or []):
                at = str(event.get("NotBefore") or "")  # empty once it has begun
                deadline = _http_date_seconds(at) if at else time.time() + NO_TIME_SECONDS
                return Notice(cloud="azure", what=str(event["EventType"]).lower(), deadline=deadline)
        return None

    def _ask(self, path: str) -> Answer:
        return _answered("azure", self._metadata.ask(path, {"Metadata": "true"}), {200})


CLOUDS: dict[str, type[AwsNotices] | type[GcpNotices] | type[AzureNotices]] = {
    "aws": AwsNotices,
    "gcp": GcpNotices,
    "azure": AzureNotices,
}


def notices_of(cloud: str, metadata: Metadata) -> Notices:
    """`auto` asks each cloud's questions in turn; the first that is answered as that cloud does is ours."""
    if cloud != "auto":
        return CLOUDS[cloud](metadata)
    silent = []
    for name, kind in CLOUDS.items():
        source = kind(metadata)
        try:
            source.notice()
        except MetadataSilent as error:
            silent.append(f"{name}: {error}")
            continue
        return source
    raise MetadataSilent(
        f"no cloud answers at {metadata.url}: {'; '.join(silent)}. On a machine of a cloud say which by --cloud; "
        "elsewhere there is nothing to watch"
    )


def _answered(cloud: str, found: Answer, wanted: set[int]) -> Answer:
    if found.status in wanted:
        return found
    expected = " or ".join(map(str, sorted(wanted)))
    raise MetadataSilent(f"{cloud} answered with status {found.status}, wanted {expected}: {found.text[:200]!r}")


def _json_object(cloud: str, found: Answer) -> dict[str, Any]:
    try:
        told = json.loads(found.text)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise MetadataSilent(f"{cloud} said {found.text[:200]!r}; wanted a JSON object")
    return told


def _iso_seconds(text: str) -> float:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise MetadataSilent(f"the notice's time is {text[:100]!r}; wanted one like 2026-11-21T10:02:00Z") from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _http_date_seconds(text: str) -> float:
    try:
        return parsedate_to_datetime(text).timestamp()
    except ValueError:
        raise MetadataSilent(f"the event's time is {text[:100]!r}; wanted one like {_DATE_LIKE}") from None


_DATE_LIKE = "Sat, 21 Nov 2026 10:02:00 GMT"
