"""Shards at a server: http and https by ranges, anything else (s3://, gs://, …) through fsspec."""

import http.client
import re
import threading
import time
import urllib.parse
import weakref
from typing import Any

from resnets.data.shards.places import Place, Stat
from resnets.data.shards.tar import Damaged
from resnets.errors import MissingExtra, WorkFailed, need

AHEAD = 2**20
ATTEMPTS = 4
PAUSE = 0.5  # seconds before the second attempt, twice as long before each further
TIMEOUT = 60.0  # seconds without an answer
REDIRECTS = 5
SECURE = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}


class Answer:
    """What a server said: its status, headers (names in lower case) and body."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class Connections:
    """Connections to servers that stay open from one request to the next; one thread at a time has each."""

    def __init__(self) -> None:
        self.idle: dict[tuple[str, str], list[http.client.HTTPConnection]] = {}
        self.lock = threading.Lock()
        weakref.finalize(self, _close, self.idle).atexit = False  # a thread may still read

    def get(self, url: str, first: int | None = None, last: int | None = None) -> Answer:
        """The bytes `first`…`last` of a URL, or all; redirects are followed. Of a whole file that wasn't asked for no body.

        Raises OSError or http.client.HTTPException where the server doesn't answer.
        """
        for _ in range(REDIRECTS):
            parts = urllib.parse.urlsplit(url)
            answer = self._once(parts, {} if first is None else {"Range": f"bytes={first}-{last}"})
            if answer.status not in (301, 302, 303, 307, 308):
                return answer
            url = urllib.parse.urljoin(url, answer.headers.get("location", ""))
        raise OSError(f"it redirects more than {REDIRECTS} times")

    def _once(self, parts: urllib.parse.SplitResult, headers: dict[str, str]) -> Answer:
        if parts.scheme not in SECURE:
            raise OSError(f"it redirects to {parts.scheme}://")
        server = (parts.scheme, parts.netloc)
        with self.lock:
            waiting = self.idle.setdefault(server, [])
            connection = waiting.pop() if waiting else SECURE[parts.scheme](parts.netloc, timeout=TIMEOUT)
        whole = False
        try:
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("GET", target, headers={"Accept-Encoding": "identity", "User-Agent": "resnets", **headers})
            response = connection.getresponse()
            unasked = bool(headers) and response.status == 200
            body = b"" if unasked else response.read()
            whole = not unasked and not response.will_close
            response.close()
            return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, body)
        finally:
            if whole:
                with self.lock:
                    waiting.append(connection)
            else:
                connection.close()


def _close(idle: dict[Any, list[http.client.HTTPConnection]]) -> None:
    for waiting in idle.values():
        for connection in waiting:
            connection.close()


class HttpPlace:
    """A shard at a web server that answers ranges."""

    ahead = AHEAD

    def __init__(self, url: str, connections: Connections) -> None:
        self.address = url
        self.connections = connections

    def stat(self) -> Stat:
        answer = self._get(0, 0)
        span = re.fullmatch(r"bytes 0-0/(\d+)", answer.headers.get("content-range", ""))
        if answer.status == 200 or (answer.status == 206 and not span):
            raise ValueError(
                f"the server of {self.address} gives whole files alone, no ranges of them; serve the shards with one that "
                "does (nginx, Apache, S3), or download them and give their folder"
            )
        if answer.status == 416:  # no byte 0
            raise Damaged(f"the shard {self.address} is empty")
        if not span:
            raise Damaged(f"the shard {self.address} is missing: the server answers {answer.status}")
        return Stat(int(span.group(1)), answer.headers.get("etag") or answer.headers.get("last-modified", ""))

    def read(self, offset: int, length: int) -> bytes:
        if not length:
            return b""
        answer = self._get(offset, offset + length - 1)
        if answer.status != 206 or len(answer.body) != length:
            raise WorkFailed(f"the shard {self.address} can't be read any more: the server answers {answer.status}")
        return answer.body

    def _get(self, first: int, last: int) -> Answer:
        return patiently(self.connections, self.address, first, last)


def patiently(connections: Connections, url: str, first: int | None = None, last: int | None = None) -> Answer:
    """An answer, asked for again where the server is in trouble. Raises WorkFailed where it stays so."""
    said = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE * 2 ** (attempt - 1))
        try:
            answer = connections.get(url, first, last)
        except (OSError, http.client.HTTPException) as error:
            said = str(error) or type(error).__name__
            continue
        if answer.status not in (429, 500, 502, 503, 504):
            return answer
        said = f"it answers {answer.status}"
    raise WorkFailed(f"{url} can't be read: {said} ({ATTEMPTS} attempts)")


class FsspecPlace:
    """A shard in any other storage that fsspec knows."""

    ahead = AHEAD

    def __init__(self, address: str) -> None:
        self.address = address
        self.files, self.path = filesystem(address)

    def stat(self) -> Stat:
        try:
            found = self.files.info(self.path)
        except FileNotFoundError:
            raise Damaged(f"the shard {self.address} is missing") from None
        except Exception as error:  # each storage raises its own
            raise WorkFailed(f"{self.address} can't be read: {error}") from error
        stamps = (
            found.get(name) for name in ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "mtime", "created")
        )
        return Stat(int(found["size"]), next((str(stamp) for stamp in stamps if stamp), ""))

    def read(self, offset: int, length: int) -> bytes:
        try:
            data = self.files.cat_file(self.path, start=offset, end=offset + length)
        except Exception as error:
            raise WorkFailed(f"the shard {self.address} can't be read any more: {error}") from error
        if len(data) != length:
            raise WorkFailed(f"the shard {self.address} has become shorter since it was opened")
        return data


def filesystem(address: str) -> tuple[Any, str]:
    """fsspec's filesystem of an address, and the path in it. Raises MissingExtra or ValueError where there is none."""
    fsspec = need("fsspec", "remote", f"reading {address}")
    try:
        return fsspec.core.url_to_fs(address)
    except ImportError as error:
        raise MissingExtra(f"reading {address} needs a library for its storage: {error}") from None
    except ValueError as error:
        raise ValueError(f"{address} is at no storage that fsspec knows: {error}") from None


def remote_places(root: str, names: list[str]) -> list[Place]:
    """The shards `names` below a remote folder."""
    if root.startswith(("http://", "https://")):
        connections = Connections()
        return [HttpPlace(root + name, connections) for name in names]
    return [FsspecPlace(root + name) for name in names]


def fetched(address: str) -> bytes | None:
    """A small file whole, None where there is none."""
    if address.startswith(("http://", "https://")):
        answer = patiently(Connections(), address)
        return answer.body if answer.status == 200 else None
    files, path = filesystem(address)
    try:
        return files.cat_file(path)
    except FileNotFoundError:
        return None
    except Exception as error:
        raise WorkFailed(f"{address} can't be read: {error}") from error
