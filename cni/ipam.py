"""The IPAM executable ``spiderpool``: carry one CNI call to the node agent and its answer back.

Promise: standard output carries exactly one result or one CNI error object, nothing else, and every
call ends within the deadlines below. VERSION is answered here, without an agent.
It must never decide anything about addresses, and never import what costs or what is ours: it is
installed and run as a file of its own (``ops.installer``), once for every ADD and DEL of a node.
The other executables are this file with the constants of theirs before its last lines. A bare
interpreter starts in 14 ms, ``import socket, json`` makes it 36. So the imports at the top are
built into the interpreter, ``_socket`` waits for a call that needs it, and ``json`` for a failure.

The frame (docs/cni.md; integers unsigned, most significant byte first), one exchange a connection,
on the unix stream socket ``<ipam_unix_socket_path>.fast``:

    request   "OWC1" | u32 n | n bytes: environment block, then standard input as it came
    answer    u8 exit status | u32 n | n bytes: standard output as it shall be

The environment block is every CNI_* variable, TRACEPARENT, TRACESTATE and BAGGAGE as NAME=value,
each closed by a NUL, and one more NUL: it ends at the first two NULs in a row. Executables other
than ``spiderpool`` say who they are in one more entry, ORBWEAVER_PLUGIN.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed lacks it; ``signal`` costs its enums
import posix

PLUGIN = "spiderpool"
IPAM_PLUGIN = "spiderpool"
DONE_VERBS: tuple[bytes, ...] = ()
"""Verbs for which this executable has nothing to do: success, without an agent."""

LENIENT_VERBS: tuple[bytes, ...] = ()
"""Verbs that succeed where no agent listens: what they are for, the next agent finds by itself."""

MAGIC = b"OWC1"
REQUEST_BYTES_MAX = 1 << 20
ANSWER_BYTES_MAX = 4 << 20
ANSWER_HEAD_BYTES = 5
READ_BYTES = 1 << 16

ANSWER_DEADLINES_S = {b"ADD": 100, b"DEL": 100, b"CHECK": 30, b"GC": 100, b"STATUS": 10}
"""From the connection to the last byte of the answer; 100 s for ADD is spec/api.md 4.1."""
CONNECT_DEADLINE_S = 5
STDIN_DEADLINE_S = 10
STDIN_OF_VERSION_DEADLINE_S = 1
STDOUT_DEADLINE_S = 10

SOCKET_KEY = "ipam_unix_socket_path"
SOCKET_PATH = b"/var/run/spidernet/spiderpool.sock"
FRAMED_SUFFIX = b".fast"
SOCKET_PATH_BYTES_MAX = 107
"""``sun_path`` of unix(7), without its closing NUL."""
TRACE_VARIABLES = (b"TRACEPARENT", b"TRACESTATE", b"BAGGAGE")

LOG_PATH = "/var/log/spidernet/spiderpool.log"
"""The default. A netconf may name another file of this directory, and none elsewhere."""
LOG_SECTION = ""
"""The member of the options that says where the log goes; "": they do themselves."""
LOG_KEYS = ("log_file_path", "log_level", "log_file_max_size")
LOG_MEGABYTES_MAX = 100
REGULAR_FILE = 0o10
"""The type of a file in its mode (inode(7): S_IFREG, without the twelve bits of rights)."""

LOG_LEVELS_ABOVE_ERROR = ("fatal", "panic")

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
CNI_VERSION_CHARACTERS_MAX = 16
KNOWN_VERBS = "ADD, DEL, CHECK, GC, STATUS, VERSION"
ROLE = "IPAM"

# The error table of the CNI specification as far as it is needed here; from 100 on it is ours.
INVALID_ENVIRONMENT = 4
IO_FAILURE = 5
UNDECODABLE = 6
INVALID_CONFIG = 7
TRY_AGAIN_LATER = 11
NOT_AVAILABLE = 50
FOREIGN_ANSWER = 100
INTERNAL = 999

# Texts that users and tests of other systems match on (spec/ipam.md 1.9).
UNHEALTHY = "unhealthy spiderpool-agent backend, failed to check: "
UNANSWERED = {
    b"ADD": "spiderpool IP allocation error: ",
    b"DEL": "spiderpool IP release error: ",
}


class Failure(Exception):
    """A CNI error object in the making: ``code``, what happened, and what would help."""

    def __init__(self, code: int, message: str, details: str = "") -> None:
        self.code = code
        self.message = message
        self.details = details


class AgentFailure(Failure):
    """No whole answer came from the agent, which therefore may not have logged anything."""


class AgentAway(AgentFailure):
    """No agent has heard of the call."""


def main() -> None:
    """Answer one CNI call and end the process; never returns."""
    verb = posix.environ.get(b"CNI_COMMAND", b"")
    netconf = b""
    status, answer = 1, b""
    _signal.signal(_signal.SIGALRM, deadline_passed)
    try:
        if verb == b"VERSION":
            status, answer = 0, version_result()
        elif verb in DONE_VERBS:
            status = 0
        elif verb in ANSWER_DEADLINES_S:
            netconf = read_netconf()
            status, answer = exchange(verb, framed_socket_path(netconf), framed_request(netconf))
        elif asked_by_a_person():
            posix.write(2, usage())
            status = 0
        else:
            raise wrong_verb(verb)
    except Failure as failure:
        answer = error_object(failure, netconf)
        if isinstance(failure, AgentAway) and verb in LENIENT_VERBS:
            status, answer = 0, b""
    except Exception as bug:  # noqa: BLE001 - a runtime can read an error object, not a traceback
        answer = error_object(Failure(INTERNAL, f"{type(bug).__name__}: {bug}"), netconf)
    # The interpreter's own shutdown costs more than a millisecond and has nothing left to flush.
    posix._exit(status if written(answer) else 1)  # noqa: SLF001 - public as ``os._exit``


def deadline_passed(_signal_number: int, _frame: object) -> None:
    """Break out of whatever system call is waiting (PEP 475): one clock for every kind of wait."""
    raise TimeoutError


def asked_by_a_person() -> bool:
    """Return whether someone on a terminal tries what this file is."""
    return posix.isatty(0) and not any(name.startswith(b"CNI_") for name in posix.environ)


def usage() -> bytes:
    """Return what this file is."""
    return (
        f"{PLUGIN} is a CNI plugin ({ROLE}): a container runtime runs it, with CNI_COMMAND set.\n"
        f"CNI protocol versions supported: {', '.join(VERSIONS)}\n"
    ).encode()


def wrong_verb(verb: bytes) -> Failure:
    """Return the failure that names CNI_COMMAND, missing or unknown."""
    if not verb:
        text = "required env variable CNI_COMMAND missing"
    else:
        text = f"unknown CNI_COMMAND: {verb.decode(errors='replace')}"
    return Failure(INVALID_ENVIRONMENT, text, f"CNI_COMMAND is one of {KNOWN_VERBS}")


def version_result() -> bytes:
    """Return the version result; ``cniVersion`` is the caller's where it is said in plain form.

    One read without waiting for the end: runtimes send some 20 bytes, and who sends nothing and
    never closes shall get an answer too.
    """
    asked = ""
    if not posix.isatty(0):
        _signal.alarm(STDIN_OF_VERSION_DEADLINE_S)
        try:
            asked = (string_after(posix.read(0, READ_BYTES), b'"cniVersion"') or b"").decode()
        except (OSError, ValueError):
            asked = ""
    version = asked if is_version(asked) else VERSIONS[-1]
    supported = '","'.join(VERSIONS)
    return f'{{"cniVersion":"{version}","supportedVersions":["{supported}"]}}\n'.encode()


def is_version(text: object) -> bool:
    """Return whether ``text`` looks like a version, so that it may stand in our JSON as it is."""
    if not isinstance(text, str) or len(text) > CNI_VERSION_CHARACTERS_MAX or not text.isascii():
        return False
    return all(part.isdigit() for part in text.split("."))


def read_netconf() -> bytes:
    """Return standard input whole; what no request can carry is refused, not cut."""
    _signal.alarm(STDIN_DEADLINE_S)
    netconf = bytearray()
    try:
        while chunk := posix.read(0, READ_BYTES):
            netconf += chunk
            if len(netconf) > REQUEST_BYTES_MAX:
                raise too_large(f"more than {REQUEST_BYTES_MAX}")
    except OSError as error:
        why = reason(error, STDIN_DEADLINE_S)
        text = f"cannot read the network configuration from stdin: {why}"
        raise Failure(IO_FAILURE, text) from error
    return bytes(netconf)


def too_large(size: str) -> Failure:
    """Return the failure for a call that does not fit into one request."""
    text = f"environment and network configuration are too large: {size} bytes"
    return Failure(INVALID_CONFIG, text, f"both together may have {REQUEST_BYTES_MAX} bytes")


def framed_request(netconf: bytes) -> bytes:
    """Return the request frame. No variable that the agent need not know leaves this process."""
    variables = [
        b"%b=%b\0" % (name, value)
        for name, value in posix.environ.items()
        if name.startswith(b"CNI_") or name in TRACE_VARIABLES
    ]
    if PLUGIN != IPAM_PLUGIN:
        variables.append(b"ORBWEAVER_PLUGIN=%b\0" % PLUGIN.encode())
    body = b"%b\0%b" % (b"".join(variables), netconf)
    if len(body) > REQUEST_BYTES_MAX:
        raise too_large(str(len(body)))
    return MAGIC + len(body).to_bytes(4) + body


def framed_socket_path(netconf: bytes) -> bytes:
    """Return the path of the agent's framed socket, from the netconf or by default.

    A netconf without escapes that says the key once needs no JSON reader, and that is all but a
    few. Whether the rest of the netconf makes sense is the agent's business.
    """
    key = b'"%b"' % SOCKET_KEY.encode()
    path: bytes | None = b""
    if b"\\" in netconf or netconf.count(key) > 1:
        path = decoded_socket_path(netconf)
    elif key in netconf:
        path = string_after(netconf, key)
        if path is None:
            path = decoded_socket_path(netconf)
    framed = (path or SOCKET_PATH) + FRAMED_SUFFIX
    if not framed.startswith(b"/") or b"\0" in framed or len(framed) > SOCKET_PATH_BYTES_MAX:
        text = f"ipam.{SOCKET_KEY} {framed[: -len(FRAMED_SUFFIX)].decode(errors='replace')!r}"
        longest = SOCKET_PATH_BYTES_MAX - len(FRAMED_SUFFIX)
        raise Failure(
            INVALID_CONFIG,
            f"{text} cannot be the path of a socket",
            f"an absolute path of at most {longest} bytes is needed",
        )
    return framed


def string_after(text: bytes, key: bytes) -> bytes | None:
    """Return the plain JSON string that is the value of ``key``; None: ask a JSON reader."""
    _, _, rest = text.partition(key)
    colon, _, rest = rest.partition(b'"')
    value, end, _ = rest.partition(b'"')
    return value if end and colon.strip() == b":" and b"\\" not in value else None


def decoded_socket_path(netconf: bytes) -> bytes:
    """Return ``ipam_unix_socket_path`` by the book; empty where nothing is said."""
    import json

    try:
        document = json.loads(netconf)
        path = options_in(document).get(SOCKET_KEY)
        if path is None:
            return b""
        if isinstance(path, str):
            return path.encode()
    except (ValueError, RecursionError) as error:
        text = f"the network configuration is not JSON: {error}"
        raise Failure(UNDECODABLE, text) from error
    raise Failure(INVALID_CONFIG, f"ipam.{SOCKET_KEY} must be a string, not {json.dumps(path)}")


def options_in(document: object) -> dict[str, object]:
    """Return where options of ours stand: under ``ipam``, or for other plugins beside the type."""
    if not isinstance(document, dict):
        return {}
    ipam = document.get("ipam", document if PLUGIN != IPAM_PLUGIN else None)
    return ipam if isinstance(ipam, dict) else {}


def exchange(verb: bytes, path: bytes, request: bytes) -> tuple[int, bytes]:
    """Return the agent's exit status and standard output for this call."""
    import _socket

    code = NOT_AVAILABLE if verb == b"STATUS" else TRY_AGAIN_LATER
    agent = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        _signal.alarm(CONNECT_DEADLINE_S)
        agent.connect(path)
    except OSError as error:
        why = reason(error, CONNECT_DEADLINE_S)
        text = f"{UNHEALTHY}{path.decode(errors='replace')}: {why}"
        raise AgentAway(code, text, "is the agent running, and is this its socket?") from error
    answer = bytearray()
    length = ANSWER_HEAD_BYTES
    try:
        _signal.alarm(ANSWER_DEADLINES_S[verb])
        try:  # noqa: SIM105 - contextlib costs more than the whole exchange
            agent.sendall(request)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the agent may refuse before it has read everything: its answer says why
        while len(answer) < length:
            chunk = agent.recv(READ_BYTES)
            if not chunk:
                raise ConnectionError("the agent closed the connection before its answer ended")
            answer += chunk
            if len(answer) >= ANSWER_HEAD_BYTES:
                length = ANSWER_HEAD_BYTES + answer_body_bytes(answer)
    except OSError as error:
        text = UNANSWERED.get(verb, UNHEALTHY) + reason(error, ANSWER_DEADLINES_S[verb])
        details = "whether the agent has done its work is unknown; the call can be repeated"
        raise AgentFailure(code, text, details) from error
    finally:
        # Before standard output is written: with fd 1 closed by the caller, this socket is fd 1.
        agent.close()
    return answer[0], bytes(answer[ANSWER_HEAD_BYTES:length])


def answer_body_bytes(answer: bytearray) -> int:
    """Return the length an answer announces, refused where no agent of ours would send it."""
    length = int.from_bytes(answer[1:ANSWER_HEAD_BYTES])
    if length > ANSWER_BYTES_MAX:
        text = f"{UNHEALTHY}not an answer of the agent: it announces {length} bytes"
        raise AgentFailure(FOREIGN_ANSWER, text, f"at most {ANSWER_BYTES_MAX} bytes are accepted")
    return length


def reason(error: OSError, deadline_s: int) -> str:
    """Return what went wrong in words, without error number."""
    if isinstance(error, TimeoutError):
        return f"timed out after {deadline_s} s"
    return error.strerror or str(error)


def error_object(failure: Failure, netconf: bytes) -> bytes:
    """Return the CNI error object, and leave a line in the log where the agent could not."""
    import json

    _signal.alarm(0)
    try:
        document = json.loads(netconf)
    except (ValueError, RecursionError):
        document = None
    fields: dict[str, object] = document if isinstance(document, dict) else {}
    if isinstance(failure, AgentFailure):
        append_to_log(failure, options_in(document))
    version = fields.get("cniVersion")
    error = {
        "cniVersion": version if is_version(version) else VERSIONS[-1],
        "code": failure.code,
        "msg": failure.message,
        "details": failure.details,
    }
    return json.dumps(error, indent=4).encode() + b"\n"


def append_to_log(failure: Failure, options: dict[str, object]) -> None:
    """Append one JSON line to the log file that the agent otherwise writes; best effort.

    The agent rotates that file. While it is away nobody does, so a full file is left alone.
    """
    import json
    import time

    section = options.get(LOG_SECTION) if LOG_SECTION else options
    said: dict[str, object] = section if isinstance(section, dict) else {}
    path, level, megabytes = (said.get(key) for key in LOG_KEYS)
    if isinstance(level, str) and level.lower() in LOG_LEVELS_ABOVE_ERROR:
        return
    limit = megabytes if isinstance(megabytes, int) and megabytes > 0 else LOG_MEGABYTES_MAX
    line = {
        "level": "ERROR",
        "ts": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "msg": failure.message,
        "code": failure.code,
    }
    for name in (b"CNI_COMMAND", b"CNI_CONTAINERID", b"CNI_IFNAME", b"CNI_ARGS"):
        line[name.decode()] = posix.environ.get(name, b"").decode(errors="replace")
    # Never waits and follows no link: the path may be a FIFO that nobody reads.
    flags = posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT | posix.O_NONBLOCK | posix.O_CLOEXEC
    try:
        log = posix.open(log_file(path), flags | posix.O_NOFOLLOW, 0o600)
        state = posix.fstat(log)
        if state.st_mode >> 12 == REGULAR_FILE and state.st_size < limit << 20:
            posix.write(log, json.dumps(line).encode() + b"\n")
    except (OSError, ValueError):
        return


def log_file(path: object) -> str:
    """Return the file that a netconf names, if it is one of the log's directory; else the default.

    Whoever may write a netconf must not make root write where they like.
    """
    directory, _, _ = LOG_PATH.rpartition("/")
    if isinstance(path, str):
        parent, _, name = path.rpartition("/")
        if parent == directory and name not in ("", ".", ".."):
            return path
    return LOG_PATH


def written(answer: bytes) -> bool:
    """Return whether standard output took the whole answer."""
    _signal.alarm(STDOUT_DEADLINE_S)
    try:
        while answer:
            answer = answer[posix.write(1, answer) :]
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
