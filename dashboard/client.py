"""The dashboard's only way to the service: a few reads over HTTP, each with a time-out.

Whatever goes wrong becomes one of four errors, so that a page can say what to do about it.

ServiceError
+-- ServiceDown      nobody answers there, or not in time
+-- KeyRefused       no key, an unknown one, or one without the scope `read`
+-- NotFound         no such experiment in the key's store
+-- ServiceTrouble   an answer that is no use: 5xx, or not Rialto's JSON
"""

from types import TracebackType
from typing import Any, TypeAlias, cast

import httpx

Json: TypeAlias = dict[str, Any]

TIMEOUT = httpx.Timeout(10.0, connect=2.0)
"""A report of a busy store may take a second or two; a service that is up accepts at once."""

_PAGE_SIZE = 200


class ServiceError(Exception):
    """Base of the tree; `detail` is the service's own sentence, or ours where it gave none."""

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(detail)


class ServiceDown(ServiceError):
    """Nobody answers at that address, or not in time."""


class KeyRefused(ServiceError):
    """The service does not accept the key for this call; `status` is 401 or 403."""

    def __init__(self, detail: str, status: int) -> None:
        self.status = status
        super().__init__(detail)


class NotFound(ServiceError):
    """There is no such thing in the key's store."""


class ServiceTrouble(ServiceError):
    """The service answered, but not with something that can be shown."""


class Client:
    """Reads of one store, at one address with one key; use it as a context manager.

    `transport` replaces the network in tests.
    """

    def __init__(self, url: str, key: str, *, transport: httpx.BaseTransport | None = None) -> None:
        self.url = url.rstrip("/")
        headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        try:
            self._http = httpx.Client(
                base_url=self.url, headers=headers, timeout=TIMEOUT, transport=transport, trust_env=False
            )
        except (httpx.InvalidURL, UnicodeError) as error:
            raise ServiceDown(f"{url!r} is not an address or the key is not plain text: {error}") from error

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def experiments(self) -> list[Json]:
        """Every experiment of the store, over all pages of the list."""
        items: list[Json] = []
        parameters: dict[str, str] = {"limit": str(_PAGE_SIZE)}
        while True:
            page = self._get("/v1/experiments", parameters)
            items += cast("list[Json]", page.get("items") or [])
            cursor = page.get("next_cursor")
            if not cursor:
                return items
            parameters["cursor"] = str(cursor)

    def report(self, experiment: str, *, segment: str | None = None, matured: bool | None = None) -> Json:
        """The analysis; `matured` None leaves the choice to the service (its default by policy)."""
        parameters: dict[str, str] = {}
        if segment is not None:
            parameters["segment"] = segment
        if matured is not None:
            parameters["matured"] = "true" if matured else "false"
        return self._get(f"/v1/experiments/{experiment}/report", parameters)

    def policy(self, experiment: str, *, every_version: bool = False) -> Json:
        """The current policy; with `every_version` all earlier ones too, oldest first (may be megabytes)."""
        return self._get(f"/v1/experiments/{experiment}/policy", {"all": "true"} if every_version else {})

    def guardrail_changes(self, experiment: str) -> list[Json]:
        """Every change of a guardrail or a circuit breaker, oldest first; none of a service of old."""
        return self._items(f"/v1/experiments/{experiment}/guardrail-changes")

    def analyses(self, experiment: str) -> list[Json]:
        """Every fit of the pooled model that was asked for, oldest first, without its figures."""
        return self._items(f"/v1/experiments/{experiment}/analyses")

    def analysis(self, experiment: str, number: str) -> Json:
        """One fit of the pooled model with its figures, or why it has none."""
        return self._get(f"/v1/experiments/{experiment}/analyses/{number}", {})

    def _items(self, path: str) -> list[Json]:
        """All pages of a list; none where a service of old has no such list."""
        items: list[Json] = []
        parameters: dict[str, str] = {"limit": str(_PAGE_SIZE)}
        while True:
            try:
                page = self._get(path, parameters)
            except NotFound:
                return items
            items += cast("list[Json]", page.get("items") or [])
            cursor = page.get("next_cursor")
            if not cursor:
                return items
            parameters["cursor"] = str(cursor)

    def _get(self, path: str, parameters: dict[str, str]) -> Json:
        try:
            response = self._http.get(path, params=parameters)
        except httpx.TimeoutException as error:
            raise ServiceDown(f"{self.url} did not answer in time") from error
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise ServiceDown(f"{self.url}: {error}") from error
        if response.status_code in (401, 403):
            raise KeyRefused(_detail(response), response.status_code)
        if response.status_code == 404:
            raise NotFound(_detail(response))
        if response.status_code != 200:
            raise ServiceTrouble(f"status {response.status_code}: {_detail(response)}")
        return _object(response)


def _object(response: httpx.Response) -> Json:
    try:
        body: object = response.json()
    except ValueError as error:
        raise ServiceTrouble(f"{response.url} did not answer with JSON: is that a Rialto service?") from error
    if not isinstance(body, dict):
        raise ServiceTrouble(
            f"{response.url} answered with JSON that is no object: is that a Rialto service?"
        )
    return cast("Json", body)


def _detail(response: httpx.Response) -> str:
    """The sentence of a problem document, or the status in words where there is none."""
    try:
        problem: object = response.json()
    except ValueError:
        return response.reason_phrase
    if not isinstance(problem, dict):
        return response.reason_phrase
    document = cast("Json", problem)
    return str(document.get("detail") or document.get("title") or response.reason_phrase)
