"""Facts about child processes of the host."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.errors import DeadlineExceeded, HostCommandError
from wsklab.process import package_of, run, spawn


def _soon(seconds: float = 5.0) -> Deadline:
    return Deadline.after(seconds)


def _python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def _gone(pid: int) -> bool | NotYet:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return True if state == "Z" else NotYet(state)


def test_output_and_status_come_back() -> None:
    """Both streams and the status are in the result; nothing is merged."""
    result = run(["sh", "-c", "echo out; echo err >&2; exit 3"], deadline=_soon(), check=False)
    assert (result.exit_code, result.stdout, result.stderr) == (3, "out\n", "err\n")


def test_failure_is_a_host_error_with_the_last_line_as_reason() -> None:
    """A bad status raises; `why` is the last line that the command complained."""
    with pytest.raises(HostCommandError) as caught:
        run(["sh", "-c", "echo first >&2; echo 'disk is full' >&2; exit 1"], deadline=_soon())
    assert caught.value.why == "disk is full"
    assert caught.value.exit_code == 1


def test_both_streams_are_drained() -> None:
    """Megabytes on both streams at once do not block the child; only the limit is kept."""
    loop = "for _ in range(64): sys.stdout.write('o' * 65536); sys.stderr.write('e' * 65535 + '\\n')"
    code = f"import sys\n{loop}\nsys.stderr.write('END')"
    result = run(_python(code), deadline=_soon(10), output_limit=1000)
    assert result.truncated
    assert result.stdout == "o" * 1000
    assert len(result.stderr) == 1000
    assert result.stderr.endswith("END")


def test_input_larger_than_a_pipe_reaches_the_child() -> None:
    """Standard input of any size is fed while output is drained."""
    data = bytes(range(256)) * 4096
    result = run(["sh", "-c", "cat | wc -c"], deadline=_soon(), input=data)
    assert int(result.stdout) == len(data)


def test_input_that_nobody_reads_is_no_error() -> None:
    """A child that ends without reading its input fails nothing."""
    assert run(["true"], deadline=_soon(), input=b"x" * (1 << 20)).exit_code == 0


def test_the_whole_tree_dies_at_the_deadline(tmp_path: Path) -> None:
    """A command that hangs is killed at its deadline together with its grandchildren."""
    note = tmp_path / "pid"
    started = time.monotonic()
    with pytest.raises(HostCommandError) as caught:
        run(["sh", "-c", f"sleep 100 & echo $! > {note}; echo waiting >&2; wait"], deadline=_soon(0.4))
    assert time.monotonic() - started < 2
    assert caught.value.exit_code is None
    assert caught.value.why == "waiting"
    assert wait_until(lambda: _gone(int(note.read_text())), _soon(2), what="the grandchild's end")


def test_a_background_grandchild_does_not_hold_the_result_back(tmp_path: Path) -> None:
    """When the command has ended, a grandchild that keeps the pipe open delays the answer by half a second at most."""
    note = tmp_path / "pid"
    started = time.monotonic()
    result = run(["sh", "-c", f"sleep 30 & echo $! > {note}; echo done"], deadline=_soon(10))
    took = time.monotonic() - started
    os.kill(int(note.read_text()), signal.SIGKILL)
    assert result.stdout == "done\n"
    assert took < 2


def test_a_missing_program_names_its_package() -> None:
    """The fix for a missing program is the package that brings it."""
    with pytest.raises(HostCommandError) as caught:
        run(["qemu-img"], deadline=_soon(), env={"PATH": "/nonexistent"})
    assert caught.value.fix == "apt install qemu-utils"
    assert package_of("/usr/sbin/libvirtd") == "libvirt-daemon-system"
    assert package_of("no-such-program") is None


def test_a_missing_directory_is_not_blamed_on_the_program(tmp_path: Path) -> None:
    """A working directory that does not exist is named as such."""
    with pytest.raises(HostCommandError, match="cannot run true") as caught:
        run(["true"], deadline=_soon(), cwd=tmp_path / "absent")
    assert "does not exist" in caught.value.why


def test_messages_are_in_english_and_variables_can_be_removed() -> None:
    """The child's locale is fixed, extra variables are added, None removes one."""
    result = run(["sh", "-c", "echo $LC_ALL/$ADDED/${HOME-none}"], deadline=_soon(), env={"ADDED": "yes", "HOME": None})
    assert result.stdout == "C.UTF-8/yes/none\n"


def test_output_that_is_not_text_is_survived() -> None:
    """Bytes that are not UTF-8 become replacement characters."""
    assert run(["printf", r"a\377b"], deadline=_soon()).stdout == "a\ufffdb"


def test_a_spawned_child_appends_to_its_files_and_ends_with_the_block(tmp_path: Path) -> None:
    """Output goes to the files; leaving the block ends the whole group."""
    log = tmp_path / "log"
    log.write_text("before\n")
    with spawn(["sh", "-c", "echo out; echo err >&2; sleep 100"], stdout=log, stderr=log) as child:
        assert child.poll() is None
        wait_until(lambda: True if "err" in log.read_text() else NotYet(), _soon(), what="output")
    assert child.poll() == -signal.SIGTERM
    assert log.read_text() == "before\nout\nerr\n"


def test_a_child_that_ignores_the_request_is_killed() -> None:
    """`terminate` kills at its deadline."""
    child = spawn(_python("import signal,time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(100)"))

    def ignores() -> bool | NotYet:
        mask = next(line for line in Path(f"/proc/{child.pid}/status").read_text().splitlines() if "SigIgn" in line)
        return True if int(mask.split()[1], 16) & (1 << 14) else NotYet(mask)

    wait_until(ignores, _soon(), what="the child to ignore SIGTERM")
    assert child.terminate(_soon(0.1)) == -signal.SIGKILL


def test_a_wait_that_is_over_leaves_the_child_alone() -> None:
    """Two threads wait for one child: an early deadline is an error, the child goes on, both have its status."""
    ours, its = socket.socketpair()
    with ours, its, spawn(["sh", "-c", "read line; exit 7"], connection=its) as child, ThreadPoolExecutor() as threads:
        with pytest.raises(DeadlineExceeded, match="sh to end"):
            child.wait(_soon(0.05))
        both = [threads.submit(child.wait, _soon()) for _ in range(2)]
        ours.sendall(b"\n")
        assert [one.result() for one in both] == [7, 7]
    assert child.wait(_soon()) == 7
