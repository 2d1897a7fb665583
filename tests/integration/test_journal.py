"""systemd's journal, a real one in a mount namespace of its own: the daemon's log, and containers' logs that go there."""

import json
import os
import re
import signal
import socket
import subprocess

import pytest

from harness import BUILD, IMAGE, Daemon, wait_until

START = """
mkdir -p /run/systemd /run/log
mount -t tmpfs tmpfs /run/systemd && mount -t tmpfs tmpfs /run/log && mkdir /run/systemd/journal /run/log/journal
mount --bind "$1" /etc/systemd/journald.conf
[ -s /etc/machine-id ] || mount --bind "$2" /etc/machine-id
exec /lib/systemd/systemd-journald
"""
SETTINGS = "[Journal]\nStorage=volatile\nAudit=\nReadKMsg=no\nForwardToSyslog=no\nRateLimitIntervalSec=0\n"


class Journal:
    def __init__(self, directory):
        settings, machine = os.path.join(directory, "journald.conf"), os.path.join(directory, "machine-id")
        with open(settings, "w") as f:
            f.write(SETTINGS)
        with open(machine, "w") as f:
            f.write("0123456789abcdef0123456789abcdef\n")
        self.process = subprocess.Popen(["unshare", "--mount", "--net", "--propagation", "private", "sh", "-ec", START, "sh", settings, machine],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.inside = ["nsenter", f"--mount=/proc/{self.process.pid}/ns/mnt"]
        try:
            wait_until(self.listens, what="systemd-journald")
        except BaseException:
            self.stop()
            raise

    def listens(self):
        assert self.process.poll() is None, "systemd-journald ended"
        return os.path.exists(self.path("stdout")) and os.readlink(f"/proc/{self.process.pid}/exe").endswith("systemd-journald")

    def path(self, name):
        return f"/proc/{self.process.pid}/root/run/systemd/journal/{name}"

    def stream(self, identifier):
        """As systemd makes one for a service's output (systemd's src/journal/journald-stream.c reads these lines)."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(self.path("stdout"))
        sock.sendall(f"{identifier}\n\n6\n1\n0\n0\n0\n".encode())
        return sock

    def entries(self, *matches):
        subprocess.run([*self.inside, "journalctl", "--sync"], check=True, stdout=subprocess.DEVNULL)
        out = subprocess.run([*self.inside, "journalctl", "-D", "/run/log/journal", "--no-pager", "--all", "-o", "json", *matches],
                             check=True, capture_output=True, text=True).stdout
        return [json.loads(line) for line in out.splitlines()]

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class JournalDaemon(Daemon):
    """Its standard error is the journal, as in a unit of systemd."""

    journal = None

    def start(self, wait=True):
        with self.journal.stream("gantryd") as stream:
            st = os.fstat(stream.fileno())
            self.process = subprocess.Popen([*self.journal.inside, f"--net=/run/netns/{self.name}", os.path.join(BUILD, "bin", "gantryd"), "--config", self.ini_path],
                                            stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True,
                                            env={**self.env, "JOURNAL_STREAM": f"{st.st_dev}:{st.st_ino}"})
        if wait:
            self.wait_ready()
        return self

    def log(self):
        return "\n".join(str(entry["MESSAGE"]) for entry in self.journal.entries())


@pytest.fixture
def journal(tmp_path):
    journal = Journal(str(tmp_path))
    yield journal
    journal.stop()


@pytest.fixture
def daemon(workdir, journal):
    d = JournalDaemon(workdir)
    d.journal = journal
    try:
        d.start()
        yield d
    finally:
        d.destroy()


def test_the_daemons_log_has_fields(daemon, journal):
    ready, = journal.entries("GANTRY_ROOT=" + daemon.root)
    assert ready["MESSAGE"].startswith("gantryd is ready version=") and ready["GANTRY_VERSION"] in ready["MESSAGE"]
    assert (ready["PRIORITY"], ready["SYSLOG_IDENTIFIER"], ready["_TRANSPORT"], ready["_PID"]) == ("6", "gantryd", "journal", str(daemon.process.pid))
    daemon.write_ini({"daemon": {"log_level": "loud"}})
    daemon.process.send_signal(signal.SIGHUP)
    failed, = wait_until(lambda: journal.entries("PRIORITY=3"), what="the error in the journal")
    assert failed["MESSAGE"].startswith("the configuration was not reloaded error=") and "loud" in failed["GANTRY_ERROR"]
    assert re.search(r"gantryd\.ini:\d+: ", failed["GANTRY_ERROR"])


def test_json_goes_as_lines(daemon, journal):
    daemon.write_ini({"daemon": {"log_format": "json"}})
    daemon.process.send_signal(signal.SIGHUP)
    line = wait_until(lambda: [entry for entry in journal.entries("_TRANSPORT=stdout") if "configuration reloaded" in entry["MESSAGE"]], what="the line")[0]
    assert json.loads(line["MESSAGE"])["msg"] == "configuration reloaded" and line["_PID"] == str(daemon.process.pid)


def test_a_daemon_outlives_the_journal(daemon, journal):
    journal.stop()
    assert daemon.docker("run", "--rm", IMAGE, "echo", "goes on").out == "goes on\n"


def pieces_of(journal, cid, priority):
    return journal.entries("CONTAINER_ID_FULL=" + cid, f"PRIORITY={priority}")


def test_long_lines_of_containers_come_in_pieces(daemon, journal):
    program = "head -c 40000 /dev/zero | tr '\\0' a; head -c 20000 /dev/zero | tr '\\0' b >&2; echo a; echo short; echo b >&2; head -c 20000 /dev/zero | tr '\\0' c"
    cid = daemon.docker("run", "-d", "--log-driver", "journald", "--name", "long", IMAGE, "sh", "-c", program).out.strip()
    daemon.docker("wait", "long")
    out, err = pieces_of(journal, cid, 6), pieces_of(journal, cid, 3)
    assert [entry["MESSAGE"] for entry in out] == ["a" * 16384, "a" * 16384, "a" * 7233, "short", "c" * 16384, "c" * 3616]
    assert [entry["MESSAGE"] for entry in err] == ["b" * 16384, "b" * 3617]

    def partial(entry):
        return tuple(entry.get("CONTAINER_PARTIAL_" + name) for name in ("MESSAGE", "ORDINAL", "LAST"))

    assert [partial(entry) for entry in out] == [("true", "1", "false"), ("true", "2", "false"), (None, "3", "true"), (None, None, None),
                                                 ("true", "1", "false"), ("true", "2", "false")]
    assert [partial(entry) for entry in err] == [("true", "1", "false"), (None, "2", "true")]
    ids = [[entry["CONTAINER_PARTIAL_ID"] for entry in group] for group in (out[:3], out[4:], err)]
    assert all(len(set(group)) == 1 and re.fullmatch("[0-9a-f]{64}", group[0]) for group in ids) and len({group[0] for group in ids}) == 3
    times = [[entry["SYSLOG_TIMESTAMP"] for entry in group] for group in (out[:3], out[4:], err)]
    assert all(len(set(group)) == 1 for group in times)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z", entry["SYSLOG_TIMESTAMP"]) for entry in out + err)
