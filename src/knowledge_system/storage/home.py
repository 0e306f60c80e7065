"""The data directory: private to its owner, used for writing by one process at a time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import shutil
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.clock import to_public
from knowledge_system.domain.errors import Busy, DependencyUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from knowledge_system.domain.clock import Clock

KEY_BYTES = 32


class Home:
    """A data directory. Created with mode 0700; everything below belongs to this system.

    The lock is an advisory `flock` on `lock`: it vanishes with its process, however that ends, and its content only
    tells others who holds it.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self._clock = clock
        self._lock: int | None = None
        self._holder: dict[str, Any] = {}

    @property
    def models(self) -> Path:
        """Directory of assembled models."""
        return self.path / "models"

    @property
    def spool(self) -> Path:
        """Directory to which hooks write."""
        return self.path / "spool"

    @property
    def index(self) -> Path:
        """Directory of the derived index."""
        return self.path / "index"

    @property
    def arrivals(self) -> Path:
        """Directory of documents as they came, for as long as it takes to redact them."""
        return self.path / "arrivals"

    def prepare(self) -> None:
        """Create the directory. Raises DependencyUnavailable when it cannot be created or written."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.models.mkdir(mode=0o700, exist_ok=True)
            self.index.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise _unusable(self.path, error) from error
        if not os.access(self.path, os.R_OK | os.W_OK | os.X_OK):
            raise _unusable(self.path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))

    def acquire(self, purpose: str) -> None:
        """Take the lock for this process. Raises Busy, naming the holder, when another process has it."""
        try:
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unusable(self.path, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise self._busy() from None
        self._lock = descriptor
        shutil.rmtree(self.arrivals, ignore_errors=True)  # texts as they came, of a process that was killed
        self._tell({"pid": os.getpid(), "purpose": purpose, "since": to_public(self._clock.now())})

    def announce(self, url: str, secret: str) -> None:
        """Tell the commands of this user where the holder answers, and the secret by which it knows them."""
        path = self.path / "service.token"
        fresh = self.path / ".service.token.part"
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secret)
        fresh.replace(path)
        self._tell({**self._holder, "url": url})

    def service(self) -> tuple[str, str] | None:
        """Return address and secret of the service that holds the lock, None when no service answers yet."""
        holder = self.holder() or {}
        if not holder.get("url"):
            return None
        try:
            return str(holder["url"]), (self.path / "service.token").read_text(encoding="ascii")
        except OSError:
            return None

    def want(self) -> None:
        """Ask a holder that only keeps the directory at hand to give it back."""
        with contextlib.suppress(OSError):
            (self.path / "wanted").touch(mode=0o600)

    def wanted(self) -> int:
        """Return a number that changes whenever somebody asks for the directory."""
        try:
            return (self.path / "wanted").stat().st_mtime_ns
        except OSError:
            return 0

    def release(self) -> None:
        """Give the lock back; harmless without one."""
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = None

    def holder(self) -> dict[str, Any] | None:
        """Return who holds the lock (`pid`, `purpose`, `since`), None when nobody does."""
        for descriptor in self._opened():
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _parsed(os.pread(descriptor, 4096, 0))
        return None

    def key(self) -> bytes:
        """Return the installation's random key, made at first use and readable by its owner only."""
        path = self.path / "key"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return bytes.fromhex(path.read_text(encoding="ascii"))
        except OSError as error:
            raise _unusable(self.path, error) from error
        fresh = secrets.token_bytes(KEY_BYTES)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(fresh.hex())
        return fresh

    def _tell(self, holder: dict[str, Any]) -> None:
        """Write who holds the lock; readers may look at any moment, so the file never shrinks below what is valid."""
        if self._lock is None:
            return
        self._holder = holder
        content = json.dumps(holder).encode()
        os.pwrite(self._lock, content + b" " * max(0, os.fstat(self._lock).st_size - len(content)), 0)
        os.ftruncate(self._lock, len(content))

    def _opened(self) -> Iterator[int]:
        try:
            descriptor = os.open(self.path / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _busy(self) -> Busy:
        holder = self.holder() or {}
        who = f"process {holder.get('pid', 'unknown')} (knowledge {holder.get('purpose', '?')}"
        return Busy(
            f"the data directory {self.path} is in use by {who}, since {holder.get('since', 'just now')})",
            hint="wait for it to end, stop it, or use another directory with --home",
        )


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        holder = json.loads(content or b"{}")
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}


def _unusable(path: Path, error: OSError) -> DependencyUnavailable:
    hint = "free some space on that disk" if error.errno == errno.ENOSPC else "check its owner and permissions"
    return DependencyUnavailable(
        f"cannot use the data directory {path}: {error.strerror}", hint=f"{hint}, or name another one with --home"
    )
