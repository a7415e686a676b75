"""Files fetched over HTTP: whole and of the hash that the server states of them, or not at all."""

import hashlib
import http.client
import json
import logging
import os
import re
import urllib.request
from pathlib import Path
from typing import Any

from resnets.files import replacing

log = logging.getLogger("resnets")

SECONDS = 20  # without an answer
HUB = "https://huggingface.co"  # or $HF_ENDPOINT
FAILS = (OSError, http.client.HTTPException, KeyError, ValueError, TypeError)  # what asking a server may end in


def endpoint() -> str:
    """The Hugging Face hub, or the place that $HF_ENDPOINT names."""
    return (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")


def get(address: str, path: Path) -> str:
    """Fetch a file to `path`; its SHA-256. Raises OSError where it can't be had or isn't what the server states."""
    stated = _Stated()
    log.info("fetching %s", address)
    answer = urllib.request.build_opener(stated).open(address, timeout=SECONDS)
    with answer, replacing(path) as file:
        etag = stated.etag or answer.headers.get("X-Linked-Etag") or answer.headers.get("ETag") or ""
        etag = etag.removeprefix("W/").strip('"')
        ours, length = hashlib.sha256(), int(answer.headers.get("Content-Length") or -1)
        git = hashlib.sha1(f"blob {length}\0".encode())  # what the hub states of small files: git's hash
        while block := answer.read(1 << 20):
            for digest in (ours, git):
                digest.update(block)
            file.write(block)
        if etag not in (ours.hexdigest(), git.hexdigest()):
            what = "states no hash of it" if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", etag) else "sent something else"
            raise OSError(f"{path.name} can't be trusted: {address} {what}")
    return ours.hexdigest()


def get_json(address: str) -> Any:
    """What a server answers. Raises OSError or ValueError."""
    with urllib.request.urlopen(address, timeout=SECONDS) as answer:
        return json.loads(answer.read())


def reason(error: Exception) -> object:
    """Why something couldn't be fetched, in the error's own words."""
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or (error.args[0] if error.args else error)


class _Stated(urllib.request.HTTPRedirectHandler):
    """Follows redirects, and keeps what the first answer states of the file: the hub says its hash there."""

    def __init__(self) -> None:
        self.etag = ""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        self.etag = self.etag or headers.get("X-Linked-Etag", "")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
