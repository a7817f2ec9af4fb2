"""Installs the CNI executables and the network configuration on a node, and uninstalls them.

The conflist is written last, because a runtime that finds it calls the executables at once.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal, NamedTuple

from cni.build import PROGRAM_PATH
from core.errors import BadInput

CNI_EXECUTABLES: Final = ("spiderpool", "coordinator", "ifacer")
"""Copies of one program (``cni/plugin.c``); the name selects the function."""

CONFLIST_NAME: Final = "10-orbweaver.conflist"
ATTACHMENTS_NAME: Final = "datapath"
"""The directory of attachment records, beside the agent's socket."""

RECORD_NAME: Final = ".orbweaver-installed.json"
"""The record of installed files. Runtimes ignore files whose names begin with a dot."""

EXECUTABLE_MODE: Final = 0o755
CONFLIST_MODE: Final = 0o600
PROBE_DEADLINE_S: Final = 10


class FileChange(NamedTuple):
    """The change of one file. ``kept``: not removed, because it has changed since ``install``."""

    path: Path
    action: Literal["created", "replaced", "unchanged", "removed", "absent", "kept"]


def install(
    target_bin_dir: Path,
    conf_dir: Path,
    conflist: Mapping[str, object] | None = None,
    conflist_name: str = CONFLIST_NAME,
) -> tuple[FileChange, ...]:
    """Install the executables, then the conflist; return the changes in order.

    Raises OSError. Raises BadInput, before a file is written, if the program does not run on this
    node, the conflist is invalid, or the record cannot be read.
    """
    program = checked_program()
    files = {target_bin_dir / name: (program, EXECUTABLE_MODE) for name in CNI_EXECUTABLES}
    if conflist is not None:
        path = conf_dir / checked_conflist_name(conflist_name)
        files[path] = (conflist_bytes(conflist), CONFLIST_MODE)
    for directory in {path.parent for path in files}:
        directory.mkdir(parents=True, exist_ok=True)
    with exclusive(target_bin_dir):
        record = read_record(target_bin_dir)
        for path, (content, _) in files.items():
            record[str(path)] = digests_expected(path, record.get(str(path), []), content)
        write_record(target_bin_dir, record)
        return tuple(put(path, content, mode) for path, (content, mode) in files.items())


def uninstall(target_bin_dir: Path) -> tuple[FileChange, ...]:
    """Remove the files that ``install`` recorded, the conflist first.

    Raises OSError, and BadInput if the record cannot be read.
    """
    if not target_bin_dir.is_dir():
        return ()
    with exclusive(target_bin_dir):
        record = read_record(target_bin_dir)
        changes = tuple(
            remove_unchanged(Path(path), record[path])
            for path in sorted(record, key=lambda path: Path(path).parent == target_bin_dir)
        )
        (target_bin_dir / RECORD_NAME).unlink(missing_ok=True)
        sync_directory(target_bin_dir)
    return changes


def remove_runtime_files(socket: Path) -> tuple[FileChange, ...]:
    """Remove an agent's sockets and locks, and an empty directory of attachment records.

    The agent must have ended: a running agent would continue without its sockets.
    """
    attachments = socket.with_name(ATTACHMENTS_NAME)
    changes = []
    for path in sorted(socket.parent.glob(f"{socket.name}*")):
        path.unlink()
        changes.append(FileChange(path, "removed"))
    with suppress(OSError):  # the directory has attachment records
        attachments.rmdir()
        changes.append(FileChange(attachments, "removed"))
    return tuple(changes)


def checked_program() -> bytes:
    """Run the program once; return its content. Raises BadInput."""
    remedy = "install orbweaver for this machine's architecture, or run `python -m cni.build`"
    try:
        result = subprocess.run(
            [PROGRAM_PATH],
            input=b"{}",
            capture_output=True,
            check=True,
            env={"CNI_COMMAND": "VERSION"},
            timeout=PROBE_DEADLINE_S,
        )
        json.loads(result.stdout)
        return PROGRAM_PATH.read_bytes()
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        text = f"the CNI program {PROGRAM_PATH} cannot be run: {error}"
        raise BadInput(text, subject=str(PROGRAM_PATH), remedy=remedy) from error


def checked_conflist_name(name: str) -> str:
    """Return ``name``. Raises BadInput if a runtime would not read a file of this name."""
    if Path(name).name != name or name.startswith(".") or not name.endswith(".conflist"):
        text = f"{name!r} is not the name of a network configuration list"
        raise BadInput(
            text,
            subject="conflist_name",
            remedy="give a file name that ends in .conflist, has no directory and no leading dot",
        )
    return name


def conflist_bytes(conflist: Mapping[str, object]) -> bytes:
    """The conflist as JSON. Raises BadInput for a field that a runtime rejects."""
    plugins = conflist.get("plugins")
    all_typed = isinstance(plugins, list) and all(
        isinstance(plugin, Mapping) and plugin.get("type") for plugin in plugins
    )
    for field, is_valid, remedy in (
        ("cniVersion", isinstance(conflist.get("cniVersion"), str), "set a version such as 1.1.0"),
        ("name", bool(conflist.get("name")), "give the network a name"),
        ("plugins", bool(plugins) and all_typed, "list at least one plugin, each with its type"),
    ):
        if not is_valid:
            raise BadInput(f"the conflist has no valid {field}", subject=field, remedy=remedy)
    return json.dumps(conflist, indent=2).encode() + b"\n"


def digest(content: bytes) -> str:
    """A file's digest in the record."""
    return hashlib.sha256(content).hexdigest()


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Lock a directory; the end of the process also releases the lock."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def put(path: Path, content: bytes, mode: int) -> FileChange:
    """Replace ``path`` atomically, unless it has this content and mode."""
    existed = os.path.lexists(path)
    if existed and not path.is_symlink() and path.is_file():
        has_mode = stat.S_IMODE(path.stat().st_mode) == mode
        if has_mode and path.read_bytes() == content:
            return FileChange(path, "unchanged")
    # A fixed name, so that a file left by a killed installer is replaced.
    temporary = path.with_name(f".{path.name}.orbweaver-tmp")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)
    return FileChange(path, "replaced" if existed else "created")


def remove_unchanged(path: Path, digests: list[str]) -> FileChange:
    """Remove ``path`` if its content has a recorded digest."""
    try:
        is_ours = not path.is_symlink() and digest(path.read_bytes()) in digests
    except FileNotFoundError:
        return FileChange(path, "absent")
    except OSError:
        is_ours = False
    if not is_ours:
        return FileChange(path, "kept")
    path.unlink()
    sync_directory(path.parent)
    return FileChange(path, "removed")


def digests_expected(path: Path, recorded: list[str], content: bytes) -> list[str]:
    """The digests to record: of the new content, and of the old content if it was recorded.

    A killed installer may leave the old content, which ``uninstall`` must still remove.
    """
    after = digest(content)
    try:
        before = digest(path.read_bytes())
    except OSError:
        return [after]
    return [before, after] if before in recorded and before != after else [after]


def sync_directory(directory: Path) -> None:
    """Make a directory's entries survive a power failure."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_record(directory: Path) -> dict[str, list[str]]:
    """Path -> digests. Raises BadInput if the record is damaged."""
    path = directory / RECORD_NAME
    try:
        record = json.loads(path.read_bytes())
        return {
            str(name): [str(text) for text in digests] for name, digests in record["files"].items()
        }
    except FileNotFoundError:
        return {}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        text = f"{path} is not a record of installed files"
        remedy = "delete it, and delete the files of the earlier installation by hand"
        raise BadInput(text, subject=str(path), remedy=remedy) from error


def write_record(directory: Path, record: Mapping[str, list[str]]) -> None:
    """Write the record. Call this before the files are written."""
    content = json.dumps({"files": record}, indent=2, sort_keys=True).encode() + b"\n"
    put(directory / RECORD_NAME, content, CONFLIST_MODE)
