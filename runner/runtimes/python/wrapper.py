"""Runs the funcs of a Python bundle: python3 wrapper.py FOLDER ENTRY CONCURRENCY

One process, one worker. It reads frames on fd 3 (runner/isolate/channel.ts says how they look), calls the handlers as
Nuclio spells them, handler(context, event), and writes the replies back. Standard library only, Python 3.9 and later.

The event loop runs everything, a plain handler too: while that one runs nothing is read, so the runner notices one
that hangs by the ping it does not answer. Services are the runner's: an async handler awaits them, a plain one waits
for them here, and then pings are answered.
"""

import asyncio
import collections
import contextvars
import datetime
import importlib
import inspect
import json
import math
import os
import re
import select
import socket
import struct
import sys
import threading
import time
import traceback
import types
import uuid

# Frames: u32 length, u8 kind, payload. Integers are big-endian.
LOAD, READY, FAILED, CALLS, REPLIES, OP, OP_RESULT = 1, 2, 3, 4, 5, 6, 7
LOG, CANCEL, PING, PONG, CLOSE, HELLO = 8, 9, 10, 11, 12, 13
# Bodies on their way; each begins with the id of its call.
STREAM_DATA, STREAM_CREDIT, STREAM_END, STREAM_RESET = STREAMS = 16, 17, 18, 19
ID_BYTES = 16
FRAME = struct.Struct(">IB")
SEED_BYTES = 32
# An envelope: version, kind, count; then fixed-size records; then for each its meta and its body.
ENVELOPE = struct.Struct(">BBH")
CALL = struct.Struct(">16sdHBBII")
REPLY = struct.Struct(">16sHBBIIIIII")
KIND_REPLIES, REPLIES_VERSION = 2, 2
FLAG_DIRECT, FLAG_EVENT, FLAG_FETCHES = 2, 8, 32
REPLY_FAILED, REPLY_JSON, REPLY_DIRECT = 1, 2, 4
# What stands for the body of an answer that follows as a stream: its length, -1 where nobody knows.
LENGTH = struct.Struct(">d")
STATUS = {
    "FUNC_ERROR": 500,
    "COMMIT_FAILED": 500,
    "INVALID_RESPONSE": 502,
    "RESPONSE_TOO_LARGE": 502,
    "SERVICE_BUSY": 503,
    "TIMEOUT": 504,
    "LOOP_DETECTED": 508,
}
# A handler that lets these through is not to blame for them.
PASSED_ON = ("SERVICE_BUSY", "LOOP_DETECTED")

# Most bytes of an answer as the queue carries it, and as it is fetched; streams may be longer.
MAX_REPLY_BYTES = 1024 * 1024
MAX_FETCHED_BYTES = 64 * 1024 * 1024
# What one direction of a stream may send before it is given credit, how much is read before it is, and the longest piece.
CREDIT_BYTES = 1024 * 1024
STEP_BYTES = 256 * 1024
PIECE_BYTES = 64 * 1024
# Ids of calls that were cancelled before they came, kept at most.
MAX_CANCELLED = 256
# How long a body may be made before everything else has a turn.
PUMP_S = 0.01
MAX_OPERATION_BYTES = 8 * 1024 * 1024
MAX_OPERATIONS = 1000
# How long init_context waits for a service; a call waits until its deadline.
INIT_WAIT_S = 30
# The longest wait at once.
MAX_WAIT_S = 3600
MAX_HEADERS_CHARS = 32 * 1024
MAX_LOG_CHARS = 8 * 1024
# Most characters of the lines of one call that go back to its caller.
MAX_RETURNED_CHARS = 512 * 1024
LEVELS = ("debug", "info", "warn", "error")
TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
BAD_VALUE = re.compile(r"[^\t\x20-\x7e\x80-\xff]")
# They belong to one connection, or are made from the body. RFC 9110 section 7.6.1.
DROPPED_HEADERS = frozenset(
    "connection content-length keep-alive proxy-authenticate proxy-connection te trailer transfer-encoding upgrade".split()
)

# The call that runs: lines of the log name it, across every await.
current = contextvars.ContextVar("call", default=None)
# Whether what runs is async: then services give awaitables.
awaits = contextvars.ContextVar("awaits", default=False)


class Refused(Exception):
    """What a handler returned cannot be sent; code is one of STATUS."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class ServiceError(Exception):
    """What a service or an invoked func could not do. code: one of docs/errors.md, or the service's own, like 23505."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Response:
    """What a handler returns for a status, headers or a content type of its own."""

    def __init__(self, headers=None, body=None, content_type=None, status_code=200):
        self.headers = headers or {}
        self.body = body
        self.content_type = content_type
        self.status_code = status_code


class Trigger:
    """Where an event came from: kind is http or queue."""

    def __init__(self, kind):
        self.kind = kind
        self.name = kind


class BrokenBody(Exception):
    """The body of a call will not come to its end: its client has hung up."""


class BodyStream:
    """The body of a call, piece by piece, once: for in a plain handler, async for in an async one."""

    def __init__(self, worker, call_id=None, whole=None):
        self._worker = worker
        self._call_id = call_id
        self._pieces = collections.deque([whole] if whole else [])
        self._is_ended = call_id is None
        self._failure = None
        self._read_bytes = 0
        self._wakeup = None

    def __iter__(self):
        return self

    def __next__(self):
        if awaits.get():
            raise TypeError("this handler is async: read the body with async for")
        if self._is_empty():
            self._worker.wait_while(self._is_empty, "the body of the call did not come")
        return self._take(StopIteration)

    def __aiter__(self):
        return self

    async def __anext__(self):
        while self._is_empty():
            self._wakeup = self._wakeup or self._worker.loop.create_future()
            await asyncio.shield(self._wakeup)
        return self._take(StopAsyncIteration)

    def read(self):
        """The rest of it, in a plain handler; in an async one, an awaitable of that."""
        return self._read_async() if awaits.get() else b"".join(self)

    async def _read_async(self):
        return b"".join([piece async for piece in self])

    def _is_empty(self):
        return not self._pieces and not self._is_ended

    def _take(self, stop):
        if self._failure is not None:
            raise self._failure
        if not self._pieces:
            raise stop
        piece = self._pieces.popleft()
        self._read_bytes += len(piece)
        if self._read_bytes >= STEP_BYTES and not self._is_ended:
            self._worker.send(STREAM_CREDIT, self._call_id + struct.pack(">I", self._read_bytes))
            self._read_bytes = 0
        return piece

    # What comes from the runner. None of it runs anything of the bundle's.

    def push(self, piece):
        self._pieces.append(piece)
        self._wake()

    def end(self, failure=None):
        self._is_ended = True
        self._failure = failure
        self._wake()

    def _wake(self):
        wakeup, self._wakeup = self._wakeup, None
        if wakeup is not None and not wakeup.done():
            wakeup.set_result(None)


class CollectedBody:
    """The body of a call whose handler wants it whole: done gets it, or what broke it."""

    def __init__(self, worker, call_id, done):
        self._worker = worker
        self._call_id = call_id
        self._done = done
        self._pieces = []
        self._read_bytes = 0

    def push(self, piece):
        self._pieces.append(piece)
        self._read_bytes += len(piece)
        if self._read_bytes >= STEP_BYTES:
            self._worker.send(STREAM_CREDIT, self._call_id + struct.pack(">I", self._read_bytes))
            self._read_bytes = 0

    def end(self, failure=None):
        # Not now: a plain handler may be waiting for something of its own.
        self._worker.loop.call_soon(self._done, b"".join(self._pieces), failure, context=contextvars.Context())


class AnswerStream:
    """The body of an answer as its source makes it, no faster than it is taken."""

    def __init__(self, worker, call, source):
        self._worker = worker
        self._call = call
        self._source = source
        self._credit = CREDIT_BYTES
        # Made, and not sent for want of credit.
        self._rest = memoryview(b"")
        self._is_over = False
        self._is_waiting = False
        self._context = contextvars.copy_context()
        self._task = None

    def start(self):
        """In the context of the call, and behind its answer."""
        self._worker.loop.call_soon(self._pump, context=self._context)

    def give(self, size):
        self._credit += size
        if self._is_waiting:
            self._is_waiting = False
            self._worker.loop.call_soon(self._pump, context=self._context)

    def stop(self):
        """Nobody takes the rest: the source is told to clean up, when it is not just making a piece."""
        if not self._is_over:
            self._is_over = True
            self._worker.loop.call_soon(self._clean_up, context=self._context)

    def _clean_up(self):
        if self._task is not None:
            self._task.cancel()
            return
        close = getattr(self._source, "aclose", None) or getattr(self._source, "close", None)
        try:
            result = close() if close is not None else None
            if inspect.isawaitable(result):
                self._worker.loop.create_task(self._log_failure(result))
        except (Exception, SystemExit) as error:
            self._fail(error)

    async def _log_failure(self, closing):
        try:
            await closing
        except (Exception, SystemExit) as error:
            self._fail(error)

    def _pump(self):
        if self._is_over:
            return
        if hasattr(self._source, "__anext__"):
            self._task = self._worker.loop.create_task(self._pump_async())
            return
        turn_ends = time.monotonic() + PUMP_S
        try:
            while self._send_rest():
                self._rest = piece_of(next(self._source))
                if self._is_over:
                    return
                if time.monotonic() > turn_ends and self._send_rest():
                    self._worker.loop.call_soon(self._pump, context=self._context)
                    return
            self._is_waiting = True
        except StopIteration as end:
            self._end(end.value)
        except (Exception, SystemExit) as error:
            self._fail(error)

    async def _pump_async(self):
        """Until the credit is spent; what gives more begins anew."""
        turn_ends = time.monotonic() + PUMP_S
        awaits.set(True)
        try:
            while self._send_rest():
                self._rest = piece_of(await self._source.__anext__())
                if time.monotonic() > turn_ends:
                    turn_ends = time.monotonic() + PUMP_S
                    await asyncio.sleep(0)
            self._is_waiting = True
        except StopAsyncIteration:
            self._end(None)
        except asyncio.CancelledError:
            self._break("the func was cancelled while it made the body of its answer")
        except (Exception, SystemExit) as error:
            self._fail(error)
        finally:
            self._task = None
            if self._is_over:
                await self._close()

    async def _close(self):
        aclose = getattr(self._source, "aclose", None)
        if aclose is not None:
            await self._log_failure(aclose())

    def _send_rest(self):
        """Whether all of it has left."""
        while self._rest and self._credit > 0:
            piece = self._rest[: min(self._credit, PIECE_BYTES)]
            self._rest = self._rest[len(piece) :]
            self._credit -= len(piece)
            self._worker.send(STREAM_DATA, self._call.id + bytes(piece))
        return not self._rest

    def _end(self, trailers):
        """What a generator returns are the trailers."""
        try:
            sent = encode_headers(trailers) if trailers is not None else {}
            values = {name: ", ".join(text) if isinstance(text, list) else text for name, text in sent.items()}
        except Refused as refused:
            self._fail(TypeError(f"the trailers cannot be sent: the generator {refused}"))
            return
        self._over(STREAM_END, json.dumps(values).encode() if values else b"")

    def _fail(self, error):
        self._worker.log_error(f"func {self._call.operation.name} threw while it made the body of its answer", error)
        self._break("the func threw while it made the body of its answer")

    def _break(self, why):
        self._over(STREAM_RESET, why.encode())

    def _over(self, kind, last):
        if self._worker.answers.get(self._call.id) is self:
            del self._worker.answers[self._call.id]
            self._worker.bodies.pop(self._call.id, None)
            self._worker.send(kind, self._call.id + last)
        self._is_over = True


class Event:
    """One call. body holds the bytes as they were received."""

    def __init__(self, call_id, flags, attempt, meta, body, stream):
        self.id = call_id
        # None while the body of a direct operation is on its way.
        self._body = body
        self._stream = stream
        self.attempt = attempt
        self.kind = "event" if flags & FLAG_EVENT else "call"
        self.trigger = Trigger(meta.get("kind", "http"))
        self.timestamp = datetime.datetime.fromtimestamp(meta.get("time", 0) / 1000, datetime.timezone.utc)
        self.method = meta.get("method", "")
        self.path = meta.get("path", "")
        self.url = self.path
        self.params = meta.get("params", {})
        self.query = meta.get("query", {})
        self.fields = self.query
        self.cookies = meta.get("cookies", {})
        self.headers = meta.get("headers", {})
        self.content_type = self.headers.get("content-type", "")
        length = self.headers.get("content-length", "")
        self.size = len(body) if body is not None else int(length) if length.isdigit() else None

    @property
    def body(self):
        if self._body is None:
            if awaits.get():
                raise TypeError("the body of a direct operation comes in pieces: await event.stream().read(), or async for")
            self._body = self._stream.read()
        return self._body

    def stream(self):
        """The body in pieces, once; one that did not come as a stream is one piece."""
        return self._stream

    def json(self):
        return json.loads(self.body)


class Logger:
    """Lines for the bundle's log. Nuclio's *_with methods and keyword arguments become fields."""

    def __init__(self, worker, level):
        self._worker = worker
        self._from = LEVELS.index(level) if level in LEVELS else 0

    def _write(self, level, message, args, fields):
        call = current.get()
        lowest = call.level if call is not None and call.level in LEVELS else None
        if LEVELS.index(level) < (self._from if lowest is None else LEVELS.index(lowest)):
            return
        text = str(message)
        if args:
            text = text % args
        self._worker.log(level, text, fields)

    def debug(self, message, *args, **fields):
        self._write("debug", message, args, fields)

    def info(self, message, *args, **fields):
        self._write("info", message, args, fields)

    def warn(self, message, *args, **fields):
        self._write("warn", message, args, fields)

    def error(self, message, *args, **fields):
        self._write("error", message, args, fields)

    warning = warn
    debug_with, info_with, warn_with, warning_with, error_with = debug, info, warn, warn, error


class Context:
    """What init_context and every handler of this worker get: the same object, so user_data lives as long as the worker."""

    Response = Response
    ServiceError = ServiceError
    BrokenBody = BrokenBody

    def __init__(self, spec, logger, worker):
        self._worker = worker
        self.services = Services(spec.get("services", {}), worker)
        self.bundle = spec["bundle"]
        self.revision = spec["revision"]
        self.config = spec.get("config", {})
        self.secrets = spec.get("secrets") or {}
        self.logger = logger
        self.user_data = types.SimpleNamespace()

    def invoke(self, bundle, operation_id, params=None, query=None, headers=None, body=None):
        """Calls another func over the queue, and gives its Answer."""
        data, content_type = payload_of(body)
        sent = {str(name).lower(): value for name, value in (headers or {}).items()}
        if content_type is not None:
            sent.setdefault("content-type", content_type)
        args = {"bundle": bundle, "operationId": operation_id, "params": params, "query": query, "headers": sent}
        return self._worker.perform("invoke", args, data, Answer)


# Services: the runner does what they do, and holds their addresses and credentials. The table of operations is in
# runner/isolate/isolate.ts.


class Services:
    """context.services.<name>, or context.services["a-name"]."""

    def __init__(self, declared, worker):
        self._services = {}
        for name, settings in declared.items():
            kind = SERVICES.get(settings["type"])
            if kind is None:
                raise TypeError(f"service {name} is of type {settings['type']}, which python bundles do not have")
            self._services[name] = kind(name, worker)

    def __getitem__(self, name):
        return self._services[name]

    def __getattr__(self, name):
        if name in self._services:
            return self._services[name]
        raise AttributeError(f"there is no service {name}: declare it in x-funcatron.services")


class Service:
    def __init__(self, name, worker):
        self._name = name
        self._worker = worker

    def _ask(self, operation, args, read, body=b""):
        args["service"] = self._name
        return self._worker.perform(operation, args, body, read)


class Kv(Service):
    def get(self, key, default=None):
        return self._ask("kv.get", {"key": key}, lambda got, _: json.loads(got["value"]) if "value" in got else default)

    def set(self, key, value, ttl_ms=None):
        args = {"key": key, "value": json.dumps(value, allow_nan=False), "ttlMs": ttl_ms}
        return self._ask("kv.set", args, lambda *_: None)

    def delete(self, key):
        return self._ask("kv.delete", {"key": key}, lambda got, _: got["deleted"])

    def incr(self, key, by=1, ttl_ms=None):
        return self._ask("kv.increment", {"key": key, "by": by, "ttlMs": ttl_ms}, lambda got, _: got["value"])


class Postgres(Service):
    def query(self, sql, parameters=()):
        """rows (dicts by column), row_count and fields. The first query of a call begins its transaction."""
        call = current.get()
        if call is not None:
            call.has_taken = True
        args = {"sql": sql, "parameters": [sql_parameter(value) for value in parameters]}
        return self._ask("postgres.query", args, query_result)


class Redis(Service):
    def command(self, name, *args):
        return self._ask("redis.command", {"words": [str(word) for word in (name, *args)]}, lambda got, _: got["value"])

    def get(self, key):
        return self.command("get", key)

    def set(self, key, value, ttl_ms=None):
        return self.command("set", key, value, *([] if ttl_ms is None else ["px", ttl_ms]))

    def delete(self, *keys):
        return self.command("del", *keys)

    def incr(self, key, by=1):
        return self.command("incrby", key, by)

    def expire(self, key, ttl_ms):
        return self.command("pexpire", key, ttl_ms)


class Http(Service):
    def fetch(self, path, method="GET", headers=None, body=None):
        data, content_type = payload_of(body)
        sent = [[str(name), str(value)] for name, value in (headers or {}).items()]
        if content_type is not None and not any(name.lower() == "content-type" for name, _ in sent):
            sent.append(["content-type", content_type])
        args = {"url": path, "method": method.upper(), "headers": sent, "redirect": "manual"}
        return self._ask("http.fetch", args, Answer, data)


class Amqp(Service):
    def publish(self, exchange, key, body, mandatory=True, **options):
        """Settles when the broker has confirmed it. Options as in JavaScript: content_type, message_id, expiration_ms …"""
        data, content_type = payload_of(body)
        if content_type == "application/json":
            options.setdefault("content_type", content_type)
        named = {re.sub("_(.)", lambda found: found[1].upper(), name): value for name, value in options.items()}
        args = {"exchange": exchange, "key": key, "options": {**named, "mandatory": mandatory}}
        return self._ask("amqp.publish", args, lambda *_: None, data)


SERVICES = {"kv": Kv, "postgres": Postgres, "redis": Redis, "http": Http, "amqp": Amqp}


class Answer:
    """What an HTTP server or an invoked func answered; header names in lower case."""

    def __init__(self, result, body):
        headers = result["headers"]
        self.status_code = result["status"]
        self.headers = {name.lower(): value for name, value in (headers if isinstance(headers, list) else headers.items())}
        self.body = body

    def json(self):
        return json.loads(self.body)

    def text(self):
        return self.body.decode()


def payload_of(body):
    """Bytes and content type: the same as of what a handler returns."""
    return (b"", None) if body is None else encode_body(body)


def sql_parameter(value):
    if value is None or isinstance(value, (bool, float, str)):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**53 else str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "\\x" + bytes(value).hex()
    if isinstance(value, (list, tuple)):
        return [sql_parameter(item) for item in value]
    if isinstance(value, dict):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


# By the OIDs of pg_type.dat; what is not here stays the text PostgreSQL writes.
SQL_TYPES = {
    16: lambda text: text == "t",
    17: lambda text: bytes.fromhex(text[2:]) if text.startswith("\\x") else text,
    **dict.fromkeys((20, 21, 23, 26), int),
    **dict.fromkeys((700, 701), float),
    **dict.fromkeys((114, 3802), json.loads),
}


def query_result(result, _):
    names = [field["name"] for field in result["fields"]]
    types_ = [SQL_TYPES.get(field["type"], str) for field in result["fields"]]
    rows = [
        {name: None if text is None else read(text) for name, read, text in zip(names, types_, row)} for row in result["rows"]
    ]
    return types.SimpleNamespace(rows=rows, row_count=result["rowCount"], fields=result["fields"])


class Operation:
    def __init__(self, name, func, is_direct=False):
        self.name = name
        self.func = func
        # It reads its bodies piece by piece.
        self.is_direct = is_direct
        self.is_async = any(
            inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each)
            for each in (func, getattr(func, "__call__", None))
        )


class Call:
    """A call that has not been answered."""

    def __init__(self, tag, call_id, operation, received, log, flags=0):
        self.tag = tag
        self.can_fetch = bool(flags & FLAG_FETCHES)
        # The caller's own level, and its lines where it has asked for them back.
        self.level = log.get("level")
        self.returned = [] if log.get("isReturned") is True else None
        self.returned_chars = 0
        self.id = call_id
        self.operation = operation
        self.received = received
        # A stamp of core/stamp-clock.ts.
        self.arrived_us = int(time.time() * 1e6) % 2**32 or 1
        self.entered = received
        # On time.monotonic; and in unix ms on this machine.
        self.until = 0
        self.deadline = 0
        # It has something of a service that is committed when it succeeds.
        self.has_taken = False
        self.is_committing = False
        self.is_ended = False
        self.is_cancelled = False
        self.has_begun = False
        self.task = None
        self.timer = None

    def begin_commit(self, answer):
        """Whether the call has something that is kept now, because it succeeded."""
        self.is_committing = self.has_taken and answer is not None and answer[0] < 500
        return self.is_committing

    def keep(self, line):
        """Takes a line for the caller, as JSON can carry it, where one was asked for and there is room."""
        if self.returned is None or self.returned_chars > MAX_RETURNED_CHARS:
            return
        text = json.dumps(line, default=str, skipkeys=True)
        self.returned_chars += len(text)
        self.returned.append(json.loads(text))


class Worker:
    def __init__(self, loop, channel, folder, entry, concurrency):
        self.loop = loop
        self.channel = channel
        self.folder = folder
        self.entry = entry
        self.concurrency = concurrency
        self.context = None
        self.operations = []
        self.calls = {}
        # Ids of calls that were cancelled before they came.
        self.cancelled = {}
        self.replies = {}
        self.lines = []
        self.has_turn = False
        self.has_stacks = True
        self.thread = threading.get_ident()
        self.incoming = bytearray()
        self.outgoing = bytearray()
        # Frames that have arrived and wait for their turn.
        self.frames = collections.deque()
        # What the runner was asked to do, by number: a future, or None while a plain handler waits for it.
        self.asked = {}
        self.last_asked = 0
        self.outcome = None
        # Bodies on their way, of calls and of answers, by the ids of the calls.
        self.bodies = {}
        self.answers = {}
        self.direct_bytes = PIECE_BYTES

    # The channel.

    def start(self):
        # A fork must not hold the channel open, or speak on it.
        os.register_at_fork(after_in_child=self.channel.close)
        self.channel.setblocking(False)
        self.loop.add_reader(self.channel, self.on_readable)
        self.send(HELLO)

    def on_readable(self):
        self.receive()
        self.dispatch()

    def receive(self):
        try:
            chunk = self.channel.recv(256 * 1024)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            chunk = b""
        if not chunk:
            os._exit(0)  # the runner is gone: there is nothing left to work for
        self.incoming += chunk
        at = 0
        while len(self.incoming) - at >= FRAME.size:
            length, kind = FRAME.unpack_from(self.incoming, at)
            end = at + FRAME.size + length
            if end > len(self.incoming):
                break
            self.frames.append((kind, bytes(self.incoming[at + FRAME.size : end])))
            at = end
        del self.incoming[:at]

    def dispatch(self):
        # A plain handler that waits for a service takes what it needs out of the same queue.
        while self.frames:
            self.on_frame(*self.frames.popleft())

    def on_frame(self, kind, payload):
        if kind == CALLS:
            self.enter(payload)
        elif kind == OP_RESULT:
            self.settle(payload)
        elif kind in STREAMS:
            self.on_stream(kind, payload)
        elif kind == PING:
            self.send(PONG)
        elif kind == CANCEL:
            for at in range(0, len(payload), 16):
                self.cancel(payload[at : at + 16])
        elif kind == LOAD:
            length = struct.unpack_from(">I", payload, SEED_BYTES)[0]
            spec = json.loads(payload[SEED_BYTES + 4 : SEED_BYTES + 4 + length])
            self.loop.create_task(self.load(spec))
        elif kind == CLOSE:
            self.loop.create_task(self.close())

    async def close(self):
        """Calls every destroy_context there is, then lets the interpreter end as it does, with its atexit functions."""
        try:
            await self.call_hooks("destroy_context")
        except (Exception, SystemExit) as error:
            self.log_error("destroy_context raised", error)
        self.flush()
        self.drain()
        self.loop.stop()

    def send(self, kind, payload=b""):
        self.outgoing += FRAME.pack(len(payload), kind) + payload
        self.write()

    def write(self):
        try:
            while self.outgoing:
                del self.outgoing[: self.channel.send(self.outgoing)]
            self.loop.remove_writer(self.channel)
        except (BlockingIOError, InterruptedError):
            self.loop.add_writer(self.channel, self.write)
        except OSError:
            os._exit(1)

    def drain(self):
        """Writes the last frames before an end."""
        self.channel.setblocking(True)
        self.channel.settimeout(1)
        try:
            self.channel.sendall(self.outgoing)
        except OSError:
            pass  # nobody reads any more

    def log(self, level, message, fields=None):
        call = current.get()
        line = {"time": int(time.time() * 1000), "level": level, "message": message[:MAX_LOG_CHARS]}
        if fields:
            line["fields"] = fields
        if call is not None:
            call.keep(line)
            line["operationId"] = call.operation.name
            line["callId"] = str(uuid.UUID(bytes=call.id))
        self.lines.append(json.dumps(line, default=str, skipkeys=True))
        self.turn()

    def log_error(self, message, error):
        fields = {"stack": self.stack_of(error)} if self.has_stacks else None
        self.log("error", f"{message}: {type(error).__name__}: {error}", fields)

    def turn(self):
        if self.has_turn:
            return
        self.has_turn = True
        if threading.get_ident() == self.thread:
            self.loop.call_soon(self.flush)
        else:
            self.loop.call_soon_threadsafe(self.flush)

    def flush(self):
        """Sends what this turn has to say: lines first, then one frame of replies for each tag."""
        self.has_turn = False
        if self.lines:
            lines, self.lines = self.lines, []
            self.send(LOG, f"[{','.join(lines)}]".encode())
        replies, self.replies = self.replies, {}
        for tag, records in replies.items():
            while records:
                count, size = 0, 0
                while count < len(records) and size < MAX_REPLY_BYTES:
                    size += len(records[count][1])
                    count += 1
                head = ENVELOPE.pack(REPLIES_VERSION, KIND_REPLIES, count)
                batch, records = records[:count], records[count:]
                parts = [struct.pack(">I", tag), head, *(record for record, _ in batch), *(data for _, data in batch)]
                self.send(REPLIES, b"".join(parts))

    # What the runner does for the handlers.

    def perform(self, name, args, body, read):
        """Asks the runner: gives the result in a plain handler, an awaitable of it in an async one."""
        if threading.get_ident() != self.thread:
            raise RuntimeError(f"{name}: services and invoke are to be used in the thread of the handler")
        if awaits.get():
            return self.perform_async(name, args, body, read)
        return read(*self.wait_for(self.ask(name, args, body)))

    async def perform_async(self, name, args, body, read):
        number = self.ask(name, args, body)
        self.asked[number] = self.loop.create_future()
        try:
            return read(*await self.asked[number])
        finally:
            self.give_up(number)

    def ask(self, name, args, body):
        call = current.get()
        request = {"name": name, "args": args}
        # What makes the body of an answer has no call any more: services are its own, as in init_context.
        if call is not None and not (call.id in self.answers and name != "invoke"):
            if call.is_ended:
                raise ServiceError("CALL_ENDED", f"{name} was asked for after the call had ended")
            request["callId"] = str(uuid.UUID(bytes=call.id))
            args["deadline"] = call.deadline
        if len(self.asked) >= MAX_OPERATIONS:
            raise ServiceError("SERVICE_BUSY", f"more than {MAX_OPERATIONS} operations are pending in this worker")
        text = json.dumps(request).encode()
        if len(text) + len(body) > MAX_OPERATION_BYTES:
            raise ServiceError("PAYLOAD_TOO_LARGE", f"{name} takes at most {MAX_OPERATION_BYTES} bytes")
        self.last_asked = (self.last_asked + 1) % 2**32
        self.asked[self.last_asked] = None
        self.send(OP, struct.pack(">II", self.last_asked, len(text)) + text + body)
        return self.last_asked

    def wait_for(self, number):
        """Blocks a plain handler until the runner has answered."""
        try:
            self.wait_while(lambda: number in self.asked, "the call ended before the service answered", INIT_WAIT_S)
        finally:
            self.give_up(number)
        if isinstance(self.outcome, ServiceError):
            raise self.outcome
        return self.outcome

    def wait_while(self, is_pending, why, most_s=math.inf):
        """Blocks a plain handler: pings are answered, bodies come and its own end is heard of, all else waits."""
        if threading.get_ident() != self.thread:
            raise RuntimeError("services, invoke and the bodies of calls are to be used in the thread of the handler")
        call = current.get()
        # An answer that has begun takes as long as its body does.
        until = time.monotonic() + most_s if call is None or call.is_ended else call.until
        try:
            while True:
                self.take_urgent(call)
                if not is_pending():
                    return
                left = min(until - time.monotonic(), MAX_WAIT_S)
                if left <= 0 or call is not None and call.is_cancelled:
                    raise ServiceError("TIMEOUT", why)
                readable, writable, _ = select.select([self.channel], [self.channel] if self.outgoing else [], [], left)
                if writable:
                    self.write()
                if readable:
                    self.receive()
        finally:
            self.loop.call_soon(self.dispatch, context=contextvars.Context())

    def take_urgent(self, call):
        for _ in range(len(self.frames)):
            kind, payload = self.frames.popleft()
            if kind == OP_RESULT or kind == PING:
                self.on_frame(kind, payload)
            elif kind in STREAMS and (payload[:ID_BYTES] in self.bodies or payload[:ID_BYTES] in self.answers):
                self.on_stream(kind, payload)
            elif kind == CANCEL and call is not None and call.id in (payload[at : at + 16] for at in range(0, len(payload), 16)):
                call.is_cancelled = True
            else:
                self.frames.append((kind, payload))

    # Bodies.

    def on_stream(self, kind, payload):
        """Runs nothing of the bundle's: a plain handler may be waiting. Frames of calls that are over come late."""
        call_id, data = payload[:ID_BYTES], payload[ID_BYTES:]
        if kind == STREAM_CREDIT:
            if call_id in self.answers:
                self.answers[call_id].give(struct.unpack(">I", data)[0])
            return
        body = self.bodies.get(call_id)
        if kind == STREAM_DATA:
            if body is not None:
                body.push(data)
            return
        self.bodies.pop(call_id, None)
        if body is not None:
            body.end(BrokenBody(f"the body of the call broke off: {data.decode()}") if kind == STREAM_RESET else None)
        if kind == STREAM_RESET and call_id in self.answers:
            self.answers.pop(call_id).stop()

    def settle(self, payload):
        number, done, length = struct.unpack_from(">IBI", payload)
        if number not in self.asked:
            return  # given up meanwhile
        future = self.asked.pop(number)
        result = json.loads(payload[9 : 9 + length])
        outcome = (result, payload[9 + length :]) if done else ServiceError(result["code"], result["message"])
        if future is None:
            self.outcome = outcome
        elif not future.done():
            future.set_result(outcome) if done else future.set_exception(outcome)

    def give_up(self, number):
        if number in self.asked:
            del self.asked[number]
            self.send(CANCEL, struct.pack(">I", number))

    # The bundle.

    async def load(self, spec):
        phase = "load"
        try:
            # Packages of .pex and .zip files import as if they were installed; a pex sets up its own dependencies.
            archives = sorted(name for name in os.listdir(self.folder) if name.endswith((".pex", ".zip")))
            sys.path[0:0] = [self.folder, *(os.path.join(self.folder, name) for name in archives)]
            if any(name.endswith(".pex") for name in archives):
                try:
                    importlib.import_module("__pex__")
                except ModuleNotFoundError:
                    pass  # a plain zip application
            self.has_stacks = spec.get("stackTraces") is True
            self.context = Context(spec, Logger(self, spec.get("logLevel")), self)
            self.operations = [self.find(**each) for each in spec["operations"]]
            self.direct_bytes = spec.get("directBytes", PIECE_BYTES)
            phase = "init"
            await self.call_hooks("init_context")
        except (Exception, SystemExit) as error:
            failure = {"phase": phase, "name": type(error).__name__, "message": str(error), "stack": self.stack_of(error)}
            self.send(FAILED, json.dumps(failure).encode())
        else:
            self.flush()
            self.send(READY)

    def find(self, operationId, handler, isDirect=False, **_):
        """The func of an operation: module:function, or a function of the entry's module, or the entry itself."""
        module_name, _, function = self.entry.partition(":")
        if ":" in handler:
            module_name, _, function = handler.partition(":")
        module = importlib.import_module(module_name)
        if ":" not in handler and callable(getattr(module, handler, None)):
            function = handler
        func = getattr(module, function or "handler", None)
        if not callable(func):
            raise AttributeError(f"module {module_name} has no function {function or 'handler'}, for operation {operationId}")
        operation = Operation(operationId, func, isDirect)
        if self.concurrency > 1 and not operation.is_async:
            raise TypeError(
                f"{module_name}:{func.__name__} is no async def: with concurrency {self.concurrency} calls would wait"
                " for each other; make it one, or leave concurrency at 1 and raise workers.max"
            )
        return operation

    async def call_hooks(self, hook):
        """Calls every function of this name in the modules of the handlers, once each."""
        names = {operation.func.__module__ for operation in self.operations} | {self.entry.partition(":")[0]}
        found = [getattr(sys.modules.get(name), hook, None) for name in sorted(names)]
        for func in dict.fromkeys(func for func in found if callable(func)):
            awaits.set(inspect.iscoroutinefunction(func))
            result = func(self.context)
            if inspect.isawaitable(result):
                await result

    def stack_of(self, error):
        """The frames in the bundle's own files, innermost first, as file:line:column."""
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if frame.filename.startswith(self.folder)]
        lines = [f"    at {frame.name} ({self.own_name(frame.filename)}:{frame.lineno}:1)" for frame in reversed(own)]
        if isinstance(error, SyntaxError) and error.filename:
            lines.insert(0, f"    at {self.own_name(error.filename)}:{error.lineno}:{error.offset or 1}")
        return "\n".join(lines[:20])

    def own_name(self, filename):
        return os.path.relpath(filename, self.folder) if filename.startswith(self.folder) else filename

    # Calls.

    def enter(self, payload):
        tag, offset = struct.unpack_from(">Id", payload)
        at = 12
        _, _, count = ENVELOPE.unpack_from(payload, at)
        at += ENVELOPE.size
        data = at + count * CALL.size
        received = time.perf_counter()
        for index in range(count):
            record = CALL.unpack_from(payload, at + index * CALL.size)
            call_id, deadline, number, flags, attempt, meta_bytes, body_bytes = record
            meta = payload[data : data + meta_bytes]
            body = payload[data + meta_bytes : data + meta_bytes + body_bytes]
            data += meta_bytes + body_bytes
            meta = json.loads(meta or b"{}")
            call = Call(tag, call_id, self.operations[number], received, meta.get("log") or {}, flags)
            call.deadline = deadline + offset
            call.until = time.monotonic() + call.deadline / 1000 - time.time()
            if flags & FLAG_DIRECT and not call.operation.is_direct:
                self.collect(call, flags, attempt, meta)
                continue
            if flags & FLAG_DIRECT:
                body, stream = None, BodyStream(self, call_id)
                self.bodies[call_id] = stream
            else:
                stream = BodyStream(self, whole=body)
            self.begin(call, Event(str(uuid.UUID(bytes=call_id)), flags, attempt, meta, body, stream))

    def collect(self, call, flags, attempt, meta):
        """Runs a call when its body is here."""

        def done(body, failure=None):
            call.timer.cancel()
            if failure is not None:
                self.fail(call, "FUNC_ERROR", str(failure))
            else:
                stream = BodyStream(self, whole=body)
                self.begin(call, Event(str(uuid.UUID(bytes=call.id)), flags, attempt, meta, body, stream))

        def late():
            if self.bodies.pop(call.id, None) is not None:
                self.fail(call, "TIMEOUT", "the body did not come before the deadline")

        self.bodies[call.id] = CollectedBody(self, call.id, done)
        call.timer = self.loop.call_later(call.until - time.monotonic(), late, context=contextvars.Context())

    def begin(self, call, event):
        remaining = call.until - time.monotonic()
        if remaining <= 0:
            self.fail(call, "TIMEOUT", "the deadline had passed before the func started")
            return
        call.entered = time.perf_counter()
        if call.operation.is_async:
            self.calls[call.id] = call
            call.is_cancelled = self.cancelled.pop(call.id, False)
            call.timer = self.loop.call_later(remaining, self.cancel, call.id)
            call.task = self.loop.create_task(self.run(call, event))
            return
        token = current.set(call)
        pid = os.getpid()
        try:
            value = call.operation.func(self.context, event)
            if os.getpid() != pid:
                os._exit(0)  # a fork of the handler's that came back
            answer = self.answer_of(call, value)
            if answer is not None and answer[1] & REPLY_DIRECT and not call.can_fetch:
                answer = self.answer_of(call, gathered(answer, gather(answer[3])))
            if call.begin_commit(answer):
                self.perform("scope.end", {}, b"", lambda *_: None)
            self.finish(call, answer)
        except Refused as refused:
            self.refuse(call, refused)
        except (Exception, SystemExit) as error:
            self.fail_with(call, error)
        finally:
            current.reset(token)

    async def run(self, call, event):
        current.set(call)
        awaits.set(True)
        call.has_begun = True
        if call.is_cancelled:
            call.task.cancel()  # at its first await
        try:
            value = call.operation.func(self.context, event)
            answer = self.answer_of(call, await value if inspect.isawaitable(value) else value)
            if answer is not None and answer[1] & REPLY_DIRECT and not call.can_fetch:
                answer = self.answer_of(call, gathered(answer, await gather_async(answer[3])))
            if call.begin_commit(answer):
                await self.perform("scope.end", {}, b"", lambda *_: None)
            self.finish(call, answer)
        except asyncio.CancelledError:
            self.fail(call, "TIMEOUT", f"func {call.operation.name} was cancelled")
        except Refused as refused:
            self.refuse(call, refused)
        except (Exception, SystemExit) as error:
            self.fail_with(call, error)
        finally:
            call.timer.cancel()
            self.calls.pop(call.id, None)

    def cancel(self, call_id):
        """Raises CancelledError in an async handler: its caller is gone, or its deadline has passed."""
        call = self.calls.get(call_id)
        if call is None:
            # Most of these have been answered already; the frame of the others is overtaken by this one.
            self.cancelled[call_id] = True
            if len(self.cancelled) > MAX_CANCELLED:
                del self.cancelled[next(iter(self.cancelled))]
            return
        call.is_cancelled = True
        # A task that is cancelled before its first step never takes it, and its call would not be answered.
        if call.has_begun:
            call.task.cancel()

    def answer_of(self, call, value):
        """What encode gives; None when it cannot be sent, and the call is answered so."""
        try:
            return encode(value, MAX_FETCHED_BYTES if call.can_fetch else MAX_REPLY_BYTES)
        except Refused as refused:
            self.refuse(call, refused)
            return None

    def refuse(self, call, refused):
        self.fail(call, refused.code, f"func {call.operation.name} {refused}")

    def finish(self, call, answer):
        if answer is None:
            return
        status, flags, meta, body = answer
        if call.returned is not None:
            meta["log"] = call.returned
            if flags & REPLY_JSON:
                flags, meta["headers"] = flags & ~REPLY_JSON, {"content-type": "application/json"}
        meta = json.dumps(meta).encode() if meta else b""
        if flags & REPLY_DIRECT:
            self.reply_with(call, status, flags, meta, body, -1)
        elif call.can_fetch and len(body) > self.direct_bytes:
            self.reply_with(call, status, flags | REPLY_DIRECT, meta, iter((body,)), len(body))
        else:
            self.reply(call, status, flags, meta, body)

    def reply_with(self, call, status, flags, meta, source, length):
        """An answer whose body follows."""
        stream = AnswerStream(self, call, source)
        if call.is_cancelled:
            # Who hangs up says so once, and has said it.
            stream.stop()
            self.fail(call, "TIMEOUT", f"nobody waited for the answer of func {call.operation.name} any more")
            return
        self.answers[call.id] = stream
        self.reply(call, status, flags, meta, LENGTH.pack(length))
        stream.start()

    def fail_with(self, call, error):
        """Its words and its stack go to the log, never to the caller."""
        if call.is_committing:
            message = f"what func {call.operation.name} did could not be committed, and was rolled back"
            self.log_error(message, error)
            self.fail(call, "COMMIT_FAILED", message)
            return
        self.log_error(f"func {call.operation.name} threw", error)
        code, why = "FUNC_ERROR", type(error).__name__
        if isinstance(error, ServiceError) and error.code in PASSED_ON:
            code, why = error.code, str(error)[:200]
        elif call.until <= time.monotonic():
            code = "TIMEOUT"
        self.fail(call, code, f"func {call.operation.name} threw ({why})")

    def fail(self, call, code, message):
        failed = {"code": code, "message": message}
        if call.returned is not None:
            failed["data"] = {"log": call.returned}
        body = json.dumps(failed).encode()
        self.reply(call, STATUS[code], REPLY_FAILED, b"", body)

    def reply(self, call, status, flags, meta, body):
        call.is_ended = True
        if not flags & REPLY_DIRECT:
            self.bodies.pop(call.id, None)
        wait_us = int((call.entered - call.received) * 1e6)
        func_us = int((time.perf_counter() - call.entered) * 1e6)
        times = wait_us, min(func_us, 0xFFFFFFFF)
        record = REPLY.pack(call.id, status, flags, 0, *times, len(meta), len(body), call.arrived_us, 0)
        self.replies.setdefault(call.tag, []).append((record, meta + body))
        self.turn()


# What a handler returned.


def encode(value, max_bytes=MAX_REPLY_BYTES):
    """Status, flags, meta and body of a reply; a body with REPLY_DIRECT is an iterator. Raises Refused for what cannot be sent."""
    status, headers, content_type = 200, {}, None
    if isinstance(value, Response):
        status, headers, content_type, value = value.status_code, value.headers, value.content_type, value.body
    elif isinstance(value, tuple):
        if len(value) != 2:
            raise Refused("INVALID_RESPONSE", f"returned a tuple of {len(value)}, which is not (status, body)")
        status, value = value
        if isinstance(value, Response):
            headers, content_type, value = value.headers, value.content_type, value.body
    elif value is None:
        status = 204
    if not isinstance(status, int) or isinstance(status, bool) or not 200 <= status <= 599:
        raise Refused("INVALID_RESPONSE", f"returned status {str(status)[:40]}, which is not an integer from 200 to 599")
    sent = encode_headers(headers)
    if content_type is not None:
        sent.update(encode_headers({"content-type": content_type}))
    if is_stream(value) and status not in (204, 205, 304):
        sent.setdefault("content-type", "application/octet-stream")
        return status, REPLY_DIRECT, {"headers": sent}, value.__aiter__() if hasattr(value, "__aiter__") else iter(value)
    body, natural = encode_body(b"" if status in (204, 205, 304) else value)
    if len(body) > max_bytes:
        raise Refused("RESPONSE_TOO_LARGE", f"returned more than {max_bytes} bytes")
    if natural == "application/json" and not sent:
        return status, REPLY_JSON, {}, body
    if body or value is not None and status not in (204, 205, 304):
        sent.setdefault("content-type", natural)
    return status, 0, {"headers": sent} if sent else {}, body


def encode_body(value):
    if value is None:
        return b"", "text/plain; charset=utf-8"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value), "application/octet-stream"
    try:
        if isinstance(value, str):
            return value.encode(), "text/plain; charset=utf-8"
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode(), "application/json"
    except (TypeError, ValueError, RecursionError) as error:
        raise Refused("INVALID_RESPONSE", f"returned a value that is not JSON: {str(error)[:200]}") from error


def is_stream(value):
    """Whether a body is made piece by piece: whatever gives its pieces one after the other, and does not know how many."""
    return hasattr(value, "__aiter__") or hasattr(value, "__iter__") and not hasattr(value, "__len__")


def piece_of(value):
    """Bytes and text as they are, anything else as a line of JSON."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return memoryview(bytes(value))
    return memoryview((value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) + "\n").encode())


class Gathering:
    """A body in pieces, for whoever takes it only whole."""

    def __init__(self):
        self.body = bytearray()

    def add(self, value):
        self.body += piece_of(value)
        if len(self.body) > MAX_REPLY_BYTES:
            raise Refused("RESPONSE_TOO_LARGE", f"returned more than {MAX_REPLY_BYTES} bytes")


def gather(source):
    if not hasattr(source, "__next__"):
        raise Refused("INVALID_RESPONSE", "is no async def, and returned an async generator where bodies are sent whole")
    whole = Gathering()
    for value in source:
        whole.add(value)
    return whole.body


async def gather_async(source):
    if hasattr(source, "__next__"):
        return gather(source)
    whole = Gathering()
    async for value in source:
        whole.add(value)
    return whole.body


def gathered(answer, body):
    """The same answer with a body of one piece, as a handler returns it."""
    status, _, meta, _ = answer
    return Response(headers=meta["headers"], body=body, status_code=status)


def encode_headers(headers):
    if not isinstance(headers, dict):
        raise Refused("INVALID_RESPONSE", "returned headers that are not a dict")
    sent, chars = {}, 0
    for key, value in headers.items():
        name = str(key).lower()
        if not TOKEN.fullmatch(name):
            raise Refused("INVALID_RESPONSE", f"returned a header named {json.dumps(name[:100])}")
        if name in DROPPED_HEADERS or value is None:
            continue
        texts = [str(item) for item in value] if isinstance(value, (list, tuple)) else [str(value)]
        chars += sum(len(name) + len(text) for text in texts)
        if any(BAD_VALUE.search(text) for text in texts):
            raise Refused("INVALID_RESPONSE", f"returned header {name} with a character that headers cannot hold")
        sent[name] = texts if isinstance(value, (list, tuple)) else texts[0]
    if chars > MAX_HEADERS_CHARS:
        raise Refused("INVALID_RESPONSE", "returned headers longer than 32 KiB")
    return sent


def main():
    folder, entry, concurrency = sys.argv[1], sys.argv[2], int(sys.argv[3])
    # A line at a time: what is printed is in the log when the call is answered, not when a buffer is full.
    sys.stdout.reconfigure(line_buffering=True)
    sys.argv[1:] = []
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    worker = Worker(loop, socket.socket(fileno=3), folder, entry, concurrency)
    loop.set_exception_handler(
        lambda _, what: worker.log("error", f"uncaught in the event loop: {what.get('exception') or what['message']}")
    )
    worker.start()
    loop.run_forever()


if __name__ == "__main__":
    main()
