"""`rialto apply`: experiments from a YAML file, through the running service."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import yaml

from experiments.document import parse_document, to_document
from experiments.errors import InvalidDocument
from experiments.json_schema import child
from experiments.model import Experiment

TIMEOUT_S = 30.0


class CannotApply(Exception):
    """Something could not be applied; each line says what, where and what to do."""

    def __init__(self, *lines: str) -> None:
        self.lines = lines
        super().__init__("; ".join(lines))


def apply_file(
    file: Path, url: str, key: str, *, start: bool, transport: httpx.BaseTransport | None = None
) -> Iterator[str]:
    """Apply every experiment of the file, in order; one line on each says what changed."""
    documents = _read(file)
    headers = {"Authorization": f"Bearer {key}"}
    try:
        with httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S, transport=transport) as client:
            for place, document in documents:
                yield from _apply(client, place, document, start=start)
    except (httpx.TransportError, httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise CannotApply(f"{url} does not answer ({error}): is `rialto serve` running there?") from error


def patch_between(before: Any, after: Any) -> Any:
    """The JSON merge patch (RFC 7396) that makes `after` of `before`."""
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return after
    gone: dict[str, Any] = {name: None for name in before if name not in after}
    changed = {
        name: patch_between(before.get(name), value)
        for name, value in after.items()
        if name not in before or before[name] != value
    }
    return gone | changed


def _read(file: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """The documents of a file (one, a list, or several after `---`), each with its place for messages."""
    try:
        parts = [part for part in yaml.safe_load_all(file.read_text("utf-8")) if part is not None]
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CannotApply(f"{file}: not readable as YAML: {' '.join(str(error).split())}") from error
    found = [one for part in parts for one in (part if isinstance(part, list) else [part])]
    if not found:
        raise CannotApply(f"{file}: no experiment in it")
    documents: list[tuple[str, Mapping[str, Any]]] = []
    for number, one in enumerate(found, 1):
        if not isinstance(one, Mapping):
            raise CannotApply(f"{file}, document {number}: an experiment is a mapping, found {one!r:.60}")
        documents.append((f"{file}, {one.get('key', f'document {number}')}", one))
    return documents


def _apply(client: httpx.Client, place: str, document: Mapping[str, Any], *, start: bool) -> Iterator[str]:
    name = document.get("key")
    # Checked here first: YAML knows dates and other values that JSON cannot carry.
    _parsed(place, document, "EUR")
    answer = client.post("/v1/experiments", json=document)
    if answer.status_code == 201:
        yield f"{name}: created"
    elif answer.status_code == 200:
        yield f"{name}: unchanged"
    elif answer.status_code == 409 and _problem(answer).get("code") == "exists":
        answer = yield from _patch(client, place, document)
    else:
        raise _refused(place, answer)
    if start and answer.json()["state"] == "draft":
        started = client.post(f"{_path(name)}/start")
        if started.status_code != 200:
            raise _refused(place, started)
        yield f"{name}: started"


def _patch(
    client: httpx.Client, place: str, document: Mapping[str, Any]
) -> Generator[str, None, httpx.Response]:
    """Patch what is there into the document; the answer with the experiment as it then is."""
    name = document["key"]
    current = client.get(_path(name))
    if current.status_code != 200:
        raise _refused(place, current)
    before = current.json()["document"]
    patch = patch_between(before, to_document(_parsed(place, document, before["currency"])))
    patched = client.patch(_path(name), json=patch, headers={"If-Match": current.headers["etag"]})
    if patched.status_code != 200:
        raise _refused(place, patched)
    for pointer, old, new in _leaves(before, patch, ""):
        yield f"{name}: {pointer}: {_shown(old)} -> {_shown(new)}"
    yield f"{name}: patched to version {patched.json()['version']}"
    return patched


def _parsed(place: str, document: Mapping[str, Any], currency: str) -> Experiment:
    try:
        return parse_document(document, currency_default=currency)
    except InvalidDocument as error:
        raise CannotApply(*(f"{place}: {e.pointer or '/'}: {e.remedy}" for e in error.errors)) from error


def _leaves(before: Any, patch: Any, pointer: str) -> Iterator[tuple[str, Any, Any]]:
    """What a merge patch changes, field by field."""
    if not isinstance(patch, Mapping) or not isinstance(before, Mapping):
        yield pointer, before, patch
        return
    for name, value in patch.items():
        yield from _leaves(before.get(name), value, child(pointer, name))


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _refused(place: str, answer: httpx.Response) -> CannotApply:
    problem = _problem(answer)
    errors = problem.get("errors") or []
    if not errors:
        return CannotApply(
            f"{place}: {problem.get('detail') or f'the service answered {answer.status_code}'}"
        )
    return CannotApply(*(f"{place}: {e['pointer'] or '/'}: {e['remedy']}" for e in errors))


def _problem(answer: httpx.Response) -> Mapping[str, Any]:
    try:
        problem = answer.json()
    except ValueError:
        return {}
    return problem if isinstance(problem, Mapping) else {}


def _path(name: Any) -> str:
    return f"/v1/experiments/{quote(str(name), safe='')}"
