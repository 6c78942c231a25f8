# SPDX-License-Identifier: Apache-2.0
"""What the end-to-end tests share: a server process, and the client library through ctypes.

Everything is bounded: a server that is not ready in 30 s, or a command that does not end, fails the
test. Processes are ended by their own process id.
"""
import ctypes
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("CTXKV_BUILD", TOP / "build" / "release"))
BINARY = BUILD / "src" / "cmd" / "ctxkv"
LIBRARY = BUILD / "src" / "client" / "libctxkv.so"

MISS, DEADLINE, UNREACHABLE, OFFLINE, PEER, AUTH, TOO_LARGE = 2001, 2004, 2005, 2007, 2020, 2042, 2040
PROBE, LEASE, GET, PUT, DROP, RENEW = 1, 2, 3, 4, 5, 6
REPORT = 7
DURABLE = 1
EXISTED, WAS_DURABLE = 1, 2


def uring_is_allowed():
    """Whether this kernel and container let a process set up a ring (call 425)."""
    params = ctypes.create_string_buffer(120)
    ring = ctypes.CDLL(None, use_errno=True).syscall(425, 1, params)
    if ring >= 0:
        os.close(ring)
    return ring >= 0


class Server:
    """`ctxkv setup` in a folder of its own, then `ctxkv start` and its end, as often as wanted."""

    def __init__(self, folder, memory=None, size="600MiB", extra_setup=(), io="auto",
                 media=("store",)):
        # Stores go to a disk file system: tmpfs has no O_DIRECT on older kernels.
        self.scratch = tempfile.TemporaryDirectory(prefix="ctxkv-e2e-", dir="/var/tmp")
        self.folder = pathlib.Path(self.scratch.name)
        self.media = [self.folder / name for name in media]
        self.store = self.media[0]
        self.process = None
        self.log = None
        self.port = 0
        self.io = io
        paths = ",".join(map(str, self.media))
        medium = ["--memory", memory] if memory else ["--media", paths, "--size", size]
        self.run("setup", *medium, "--dir", self.folder, "--listen", "127.0.0.1:0",
                 "--admin-listen", "127.0.0.1:0", *extra_setup)

    @staticmethod
    def run(*arguments, check=True, timeout=60, **more):
        """One command of the binary; its outputs as text. more: as for subprocess.run()."""
        done = subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True,
                              timeout=timeout, check=False, **more)
        if check and done.returncode != 0:
            raise AssertionError(f"ctxkv {arguments}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def start(self, *options, preexec=None, supervise=False, inside=()):
        """Returns the seconds until it was ready. A restart keeps the port. preexec() runs in the
        server's process before the binary. Without supervise the process is the server itself, so
        that it can be killed. inside: a command that runs the server's."""
        begin = time.monotonic()
        self.log = open(self.folder / "server.log", "w+", encoding="utf-8")
        listen = f"127.0.0.1:{self.port}"
        watch = [] if supervise else ["--no-supervise"]
        self.process = subprocess.Popen(
            [*inside, BINARY, "start", "--dir", self.folder, "--listen", listen, "--io", self.io,
             "--shm-dir", self.folder / "run", *watch, *map(str, options)],
            stdout=self.log, stderr=subprocess.STDOUT, preexec_fn=preexec)
        while time.monotonic() < begin + 30:
            ready = re.search(r"^ready\s+127\.0\.0\.\d+:(\d+)", self.output(), re.M)
            if ready:
                self.port = int(ready[1])
                return time.monotonic() - begin
            if self.process.poll() is not None:
                raise AssertionError("the server ended:\n" + self.output())
            time.sleep(0.01)
        raise AssertionError("the server was not ready in 30 s:\n" + self.output())

    def tenant(self, action, *arguments, check=True):
        """`ctxkv tenant` on this server's secrets file."""
        return self.run("tenant", action, *arguments, "--secrets", self.folder / "secrets",
                        check=check)

    def reload(self, refused=0):
        """SIGHUP, and wait until the log says that the file was taken (or refused so often)."""
        taken = self.output().count("secrets taken from")
        self.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 10
        while time.monotonic() < end:
            if refused and self.output().count("secrets not taken") >= refused:
                return
            if not refused and self.output().count("secrets taken from") > taken:
                return
            time.sleep(0.005)
        raise AssertionError("the server did not read its secrets again:\n" + self.output())

    def output(self):
        return (self.folder / "server.log").read_text(encoding="utf-8")

    def url(self, tenant="default", keyfile=None):
        return f"ctxkv://{tenant}@127.0.0.1:{self.port}?keyfile={keyfile or self.folder / 'secrets'}"

    def kill(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        code = self.process.wait(timeout=30)
        self.process = None
        self.log.close()
        return code

    def stop(self):
        code = self.kill(signal.SIGTERM)
        assert code == 0, self.output()

    def resident(self):
        """Bytes of memory that the server has; what clients of this host share with it is theirs."""
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        sizes = {name: int(re.search(rf"^{name}:\s+(\d+)", text, re.M)[1]) * 1024
                 for name in ("VmRSS", "RssShmem")}
        return sizes["VmRSS"] - sizes["RssShmem"]

    def admin(self):
        """Where its admin endpoint is."""
        return re.search(r"^admin\s+http://([^/]+)/", self.output(), re.M)[1]

    def counter(self, name):
        text = self.run("stat", "--url", self.url()).stdout
        return int(re.search(rf"^{name} (\d+)", text, re.M)[1])

    def end(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=30)
            self.log.close()
        self.scratch.cleanup()


# --- the client library; the structs are those of ctxkv.h ---


class Iov(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_uint64)]


class Item(ctypes.Structure):
    _fields_ = [("key", ctypes.c_uint8 * 32), ("place", ctypes.c_uint8 * 16),
                ("chain", ctypes.c_uint64), ("depth", ctypes.c_uint32), ("ttl_s", ctypes.c_uint32),
                ("offset", ctypes.c_uint64), ("iov", ctypes.POINTER(Iov)),
                ("iov_count", ctypes.c_uint32), ("status", ctypes.c_int32),
                ("record", ctypes.c_uint64 * 2), ("done_size", ctypes.c_uint64),
                ("block_size", ctypes.c_uint64), ("flags", ctypes.c_uint32),
                ("is_here", ctypes.c_uint32), ("reserved", ctypes.c_uint64 * 4)]


class Op(ctypes.Structure):
    _fields_ = [("opcode", ctypes.c_uint32), ("flags", ctypes.c_uint32), ("ns", ctypes.c_uint8 * 16),
                ("domain", ctypes.c_uint8 * 16), ("items", ctypes.POINTER(Item)),
                ("item_count", ctypes.c_uint64), ("timeout_ns", ctypes.c_uint64),
                ("lease", ctypes.c_uint64), ("duration_ms", ctypes.c_uint32),
                ("reserved0", ctypes.c_uint32), ("report", ctypes.c_uint64 * 4),
                ("user", ctypes.c_void_p), ("status", ctypes.c_int32), ("state", ctypes.c_uint32),
                ("run", ctypes.c_uint64), ("reserved", ctypes.c_uint64 * 7)]


class Opts(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint64), ("url", ctypes.c_char_p), ("flags", ctypes.c_uint32),
                ("lanes", ctypes.c_uint32), ("inflight_max", ctypes.c_uint32),
                ("log_level", ctypes.c_uint32), ("probe_timeout_ns", ctypes.c_uint64),
                ("timeout_ns", ctypes.c_uint64), ("connect_timeout_ns", ctypes.c_uint64),
                ("log", ctypes.c_void_p), ("log_ctx", ctypes.c_void_p),
                ("sessions", ctypes.c_uint32), ("transport", ctypes.c_uint32),
                ("staging_size", ctypes.c_uint64)]


class ServerRow(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint64), ("address", ctypes.c_char * 128),
                ("uuid", ctypes.c_uint8 * 16), ("state", ctypes.c_uint32),
                ("weight", ctypes.c_uint32), ("reactors", ctypes.c_uint32),
                ("shards", ctypes.c_uint32), ("sessions", ctypes.c_uint32),
                ("requests", ctypes.c_uint32), ("connects", ctypes.c_uint64),
                ("block_max", ctypes.c_uint64), ("capacity", ctypes.c_uint64),
                ("failing_ns", ctypes.c_uint64), ("retry_ns", ctypes.c_uint64),
                ("leaves_ns", ctypes.c_uint64), ("last_error", ctypes.c_int64),
                ("transport", ctypes.c_char * 16), ("fallback", ctypes.c_char * 256)]


class Stat(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint64), ("transport", ctypes.c_char * 16),
                ("server", ctypes.c_char * 64), ("is_connected", ctypes.c_uint32),
                ("lanes", ctypes.c_uint32), ("block_max", ctypes.c_uint64),
                ("capacity", ctypes.c_uint64), ("ops", ctypes.c_uint64), ("hits", ctypes.c_uint64),
                ("misses", ctypes.c_uint64), ("puts", ctypes.c_uint64),
                ("put_failures", ctypes.c_uint64), ("bytes_in", ctypes.c_uint64),
                ("bytes_out", ctypes.c_uint64), ("bytes_copied", ctypes.c_uint64),
                ("deadlines", ctypes.c_uint64), ("connects", ctypes.c_uint64),
                ("breaker_opens", ctypes.c_uint64), ("corrupt", ctypes.c_uint64),
                ("last_error", ctypes.c_int64), ("fallbacks", ctypes.c_uint64),
                ("staging_size", ctypes.c_uint64), ("staging_used", ctypes.c_uint64),
                ("fallback", ctypes.c_char * 256), ("retries", ctypes.c_uint64)]


class RegionInfo(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint64), ("served", ctypes.c_char * 64),
                ("is_direct", ctypes.c_uint32), ("page_size", ctypes.c_uint32)]


SERVER_STATES = ("unknown", "up", "out", "away", "draining", "alias", "gone")


def load_library():
    library = ctypes.CDLL(str(LIBRARY))
    library.ctxkv_strerror.restype = ctypes.c_char_p
    library.ctxkv_opts_init.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    library.ctxkv_open.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p,
                                   ctypes.c_char_p, ctypes.c_size_t]
    library.ctxkv_close.argtypes = [ctypes.c_void_p]
    library.ctxkv_run.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    library.ctxkv_submit.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    library.ctxkv_poll.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    library.ctxkv_get_stat.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    library.ctxkv_alloc.restype = ctypes.c_void_p
    library.ctxkv_alloc.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
    library.ctxkv_free.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    library.ctxkv_region_declare.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64,
                                             ctypes.c_void_p]
    library.ctxkv_region_undeclare.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    library.ctxkv_region_get_info.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    library.ctxkv_region_find.restype = ctypes.c_void_p
    library.ctxkv_region_find.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64]
    library.ctxkv_get_servers.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    library.ctxkv_namespace.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
    library.ctxkv_domain.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
    assert ctypes.sizeof(Item) == 160 and ctypes.sizeof(Op) == 192
    return library


class OpenError(Exception):
    """ctxkv_open() refused: code and message."""

    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class Client:
    """A client; blocks are bytes, outcomes are statuses (0 or a negative code)."""

    library = None

    def __init__(self, url, lanes=2, timeout_s=10.0, wait_s=5.0, flags=0):
        Client.library = Client.library or load_library()
        opts = Opts()
        self.library.ctxkv_opts_init(ctypes.byref(opts), ctypes.sizeof(opts))
        opts.url = url.encode()
        opts.lanes = lanes
        opts.flags = flags
        opts.timeout_ns = int(timeout_s * 1e9)
        message = ctypes.create_string_buffer(512)
        self.handle = ctypes.c_void_p()
        code = self.library.ctxkv_open(ctypes.byref(opts), int(wait_s * 1e9),
                                       ctypes.byref(self.handle), message, len(message))
        if code < 0:
            raise OpenError(code, message.value.decode())
        self.ns = (ctypes.c_uint8 * 16)()
        self.shared = (ctypes.c_uint8 * 16)()
        self.namespace("e2e")

    def namespace(self, text):
        self.library.ctxkv_namespace(text.encode(), self.ns)

    def domain(self, name):
        """A shared domain for what follows; None: the tenant's own."""
        self.shared = (ctypes.c_uint8 * 16)()
        if name is not None:
            self.library.ctxkv_domain(name.encode(), self.shared)

    def close(self):
        self.library.ctxkv_close(ctypes.byref(self.handle))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def run(self, opcode, keys, buffers=(), flags=0, offset=0, timeout_s=0.0, lease=0,
            duration_ms=0):
        """One op over keys (and a buffer each). Returns (status of the op, items)."""
        items = (Item * max(1, len(keys)))()
        iovs = (Iov * max(1, len(keys)))()
        for i, key in enumerate(keys):
            items[i].key[:] = key
            items[i].offset = offset
            if buffers:
                iovs[i].base = ctypes.addressof(buffers[i])
                iovs[i].size = len(buffers[i])
                items[i].iov = ctypes.pointer(iovs[i])
                items[i].iov_count = 1
        op = Op(opcode=opcode, flags=flags, items=items, item_count=len(keys),
                timeout_ns=int(timeout_s * 1e9), lease=lease, duration_ms=duration_ms)
        op.ns[:] = self.ns
        op.domain[:] = self.shared
        status = self.library.ctxkv_run(self.handle, ctypes.byref(op))
        self.lease_id = op.lease
        return status, items

    def put(self, blocks, durable=False):
        """blocks: {key: bytes}. Returns [(status, flags)]."""
        buffers = [(ctypes.c_char * len(b)).from_buffer_copy(b) for b in blocks.values()]
        _, items = self.run(PUT, list(blocks), buffers, DURABLE if durable else 0)
        return [(items[i].status, items[i].flags) for i in range(len(blocks))]

    def get(self, keys, size, offset=0, timeout_s=0.0, lease=0):
        """Returns a list: the block's bytes, or its negative status."""
        buffers = [(ctypes.c_char * size)() for _ in keys]
        _, items = self.run(GET, keys, buffers, offset=offset, timeout_s=timeout_s, lease=lease)
        return [buffers[i].raw[:items[i].done_size] if items[i].status == 0 else items[i].status
                for i in range(len(keys))]

    def probe(self, keys):
        status, items = self.run(PROBE, keys)
        return [bool(items[i].is_here) for i in range(len(keys))] if status == 0 else status

    def lease(self, keys, duration_ms, flags=0):
        """(lease, [is it here])"""
        _, items = self.run(LEASE, keys, flags=flags, duration_ms=duration_ms)
        return self.lease_id, [bool(items[i].is_here) for i in range(len(keys))]

    def renew(self, lease, duration_ms):
        return self.run(RENEW, [], lease=lease, duration_ms=duration_ms)[0]

    def report(self, tokens_loaded, tokens_recomputed, load_s, prefill_s):
        op = Op(opcode=REPORT)
        op.ns[:] = self.ns
        op.report[:] = [tokens_loaded, tokens_recomputed, int(load_s * 1e9), int(prefill_s * 1e9)]
        return self.library.ctxkv_run(self.handle, ctypes.byref(op))

    def servers(self):
        """{address: (state, row)} of ctxkv_get_servers()."""
        rows = (ServerRow * 16)()
        rows[0].size = ctypes.sizeof(ServerRow)
        count = self.library.ctxkv_get_servers(self.handle, rows, len(rows))
        assert 0 <= count <= len(rows)
        return {row.address.decode(): (SERVER_STATES[row.state], row) for row in rows[:count]}

    def stat(self):
        row = Stat(size=ctypes.sizeof(Stat))
        assert self.library.ctxkv_get_stat(self.handle, ctypes.byref(row)) == 0
        return row

    def declare(self, address, size):
        """A region of memory at an address."""
        region = ctypes.c_void_p()
        code = self.library.ctxkv_region_declare(self.handle, address, size, ctypes.byref(region))
        assert code == 0, code
        return region

    def undeclare(self, region):
        return self.library.ctxkv_region_undeclare(self.handle, ctypes.byref(region))

    def region_of(self, address, size):
        return ctypes.c_void_p(self.library.ctxkv_region_find(self.handle, address, size))

    def region_info(self, region):
        info = RegionInfo(size=ctypes.sizeof(RegionInfo))
        assert self.library.ctxkv_region_get_info(region, ctypes.byref(info)) == 0
        return info

    def alloc(self, size):
        return self.library.ctxkv_alloc(self.handle, size)

    def free(self, address):
        self.library.ctxkv_free(self.handle, address)

    def drop(self, keys):
        _, items = self.run(DROP, keys)
        return [items[i].status for i in range(len(keys))]


def key_of(*words):
    """32 bytes that no other words give."""
    import hashlib
    return hashlib.sha256(repr(words).encode()).digest()


def block_of(key, size):
    """The bytes that belong to a key."""
    import hashlib
    seed = hashlib.sha512(key).digest()
    return (seed * (size // len(seed) + 1))[:size]


def freeze(pid):
    """SIGSTOP, and wait until no thread of the process runs any more: the signal alone is a wish."""
    os.kill(pid, signal.SIGSTOP)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        stats = pathlib.Path(f"/proc/{pid}/task").glob("*/stat")
        if all(stat.read_text(encoding="ascii").rsplit(")", 1)[1].split()[0] == "T" for stat in stats):
            return
        time.sleep(0.001)
    raise AssertionError(f"process {pid} does not stop")
