"""Those who take all they can get: containers that flood, fork and hoard, clients that do not read, do not finish or come in crowds. Everyone else is
served, memory stays bounded, and who is idle costs nothing. Counts are asserted, never times."""

import contextlib
import glob
import http.client
import os
import threading
import time
from urllib.parse import quote

import pytest

from harness import IMAGE, sanitized, wait_until
from wire import UPGRADE, Wire

MB = 1 << 20


def private(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return sum(int(line.split()[1]) << 10 for line in f if line.startswith(("Private_Clean", "Private_Dirty")))


def status(pid, field, task=None):
    with open(f"/proc/{pid}/task/{task}/status" if task else f"/proc/{pid}/status") as f:
        return int(next(line for line in f if line.startswith(field + ":")).split()[1])


def switches(pid):
    """How often the process's threads went to sleep or were put to sleep."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):
            total += status(pid, "voluntary_ctxt_switches", task) + status(pid, "nonvoluntary_ctxt_switches", task)
    return total


def extent(path):
    """Which file of a log that is, and how far it goes. None while one takes the place of another."""
    with contextlib.suppress(OSError):
        found = os.stat(path)
        return found.st_ino, found.st_size
    return None


def start(daemon, name, *command, **host):
    host.setdefault("NetworkMode", "none")
    daemon.json("POST", f"/containers/create?name={name}", {"Image": IMAGE, "Cmd": list(command), "HostConfig": host})
    assert daemon.api("POST", f"/containers/{name}/start").status == 204
    return daemon.inspect(name)


def shim(container):
    return status(container["State"]["Pid"], "PPid")


def served(daemon):
    """Somebody else's day: looks, and a container from create to remove."""
    assert daemon.api("GET", "/_ping", timeout=20).status == 200
    daemon.json("GET", "/containers/json?all=1", timeout=20)
    start(daemon, "other", "echo", "fine")
    assert daemon.json("POST", "/containers/other/wait", timeout=20)["StatusCode"] == 0
    assert b"fine" in daemon.api("GET", "/containers/other/logs?stdout=1", timeout=20).body
    assert daemon.api("DELETE", "/containers/other", timeout=20).status == 204


# ---- containers ----

def test_a_flood_of_lines(daemon):
    """As fast as it can, into rotated files, with one who follows."""
    start(daemon, "quiet", "sleep", "600")
    before = private(daemon.process.pid)
    loud = start(daemon, "loud", "sh", "-c", "yes some line of a log", LogConfig={"Type": "json-file", "Config": {"max-size": "1m", "max-file": "3"}})
    path, files, followed = loud["LogPath"], [0], [0]

    def follow():
        with Wire(daemon) as connection:
            connection.request("GET", "/containers/loud/logs?stdout=1&follow=1", headers=("Connection: close",))
            while data := connection.sock.recv(65536):
                followed[0] += len(data)
    follower = threading.Thread(target=follow)
    follower.start()

    def rotated():
        now = extent(path)
        if now and now[0] != files[-1]:
            files.append(now[0])
        return len(files) > 8 and followed[0] > 4 * MB
    wait_until(rotated, 20, "eight files of a log")
    for _ in range(3):
        served(daemon)
    left = [extent(file) for file in glob.glob(path + "*")]
    assert len(left) <= 4 and sum(file[1] for file in left if file) < 5 * MB     # one more while they are shifted
    if not sanitized():
        assert private(daemon.process.pid) - before < 8 * MB and private(shim(loud)) < 2 * MB
    assert daemon.api("DELETE", "/containers/loud?force=1").status == 204
    follower.join(20)
    assert not follower.is_alive() and daemon.state("quiet") == "running"


def test_a_fork_bomb(daemon):
    start(daemon, "quiet", "sleep", "600")
    start(daemon, "bomb", "sh", "-c", "(while true; do sleep 600 & done) 2>/dev/null; exec sleep 600", PidsLimit=60)

    def pids():
        return daemon.json("GET", "/containers/bomb/stats?stream=0&one-shot=1")["pids_stats"].get("current", 0)
    wait_until(lambda: pids() >= 59, 20, "as many processes as are allowed")
    for _ in range(3):
        served(daemon)
        assert pids() <= 60
    exec_id = daemon.json("POST", "/containers/bomb/exec", {"Cmd": ["true"], "AttachStdout": True})["Id"]
    daemon.api("POST", f"/exec/{exec_id}/start", {"Detach": True})      # has room or has not, and says so
    assert daemon.api("POST", "/containers/bomb/kill").status == 204
    wait_until(lambda: daemon.state("bomb") == "exited", 20, "the end of the bomb")
    assert daemon.inspect("bomb")["State"]["ExitCode"] == 137
    start(daemon, "bomb-2", "sh", "-c", "f() { f | f & }; f 2>/dev/null; exec sleep 600", PidsLimit=60)
    assert daemon.api("DELETE", "/containers/bomb-2?force=1").status == 204     # meanwhile
    served(daemon)


def test_a_hog_of_memory(daemon):
    """Again and again, beside one that has its own."""
    start(daemon, "quiet", "sleep", "600")
    for number in range(3):
        name = f"hog-{number}"
        start(daemon, name, "sh", "-c", "x=aaaaaaaaaaaaaaaa; while true; do x=$x$x; done", Memory=16 * MB, MemorySwap=16 * MB)
        assert daemon.json("POST", f"/containers/{name}/wait")["StatusCode"] == 137
        assert daemon.inspect(name)["State"]["OOMKilled"] is True
    # The file of a tmpfs is the container's memory too, and goes with it.
    start(daemon, "tmpfs", "sh", "-c", "dd if=/dev/zero of=/dev/shm/x bs=64k; sleep 600", Memory=16 * MB, MemorySwap=16 * MB, ShmSize=256 * MB)
    served(daemon)
    assert daemon.api("DELETE", "/containers/tmpfs?force=1").status == 204
    served(daemon)
    assert daemon.state("quiet") == "running"


def test_a_hog_of_descriptors(daemon):
    script = "i=3; while eval \"exec $i</dev/null\" 2>/dev/null; do i=$((i+1)); done"
    start(daemon, "hog", "sh", "-c", "trap 'echo stopped' EXIT; " + script, Ulimits=[{"Name": "nofile", "Soft": 100, "Hard": 100}])
    daemon.json("POST", "/containers/hog/wait")
    start(daemon, "count", "sh", "-c", script + "; ls /proc/self/fd | wc -l; sleep 600", Ulimits=[{"Name": "nofile", "Soft": 100, "Hard": 100}])
    served(daemon)


# ---- clients ----

SLOW = [("GET", "/containers/loud/logs?stdout=1&follow=1"), ("GET", "/containers/loud/logs?stdout=1"), ("GET", "/events"),
        ("GET", "/containers/loud/export"), ("GET", f"/images/{quote(IMAGE, safe='')}/get"), ("GET", "/containers/loud/stats"),
        ("POST", "/containers/loud/attach?stream=1&stdout=1")]


def test_clients_that_do_not_read(daemon):
    path = start(daemon, "loud", "sh", "-c", "yes some line of a log", LogConfig={"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}})["LogPath"]
    pid = shim(daemon.inspect("loud"))
    before, threads = private(daemon.process.pid), status(daemon.process.pid, "Threads")
    with contextlib.ExitStack() as stack:
        for method, what in SLOW * 6:
            stack.enter_context(Wire(daemon)).request(method, what, b"" if method == "POST" else None, UPGRADE if method == "POST" else ())
        for number in range(100):
            daemon.json("POST", "/volumes/create", {"Name": f"many-{number}"})
        for number in range(100):
            assert daemon.api("DELETE", f"/volumes/many-{number}").status == 204
        for _ in range(2):
            served(daemon)
        if not sanitized():
            assert private(daemon.process.pid) - before < len(SLOW) * 6 * MB
            assert private(pid) < 10 * MB
    # They have gone: the container writes on, and nothing is left of them.
    at = extent(path)
    wait_until(lambda: extent(path) not in (None, at), 20, "more output")
    wait_until(lambda: status(daemon.process.pid, "Threads") <= threads + 8, 20, "the end of the clients' threads")
    if not sanitized():
        wait_until(lambda: private(pid) < 2 * MB, 20, "the shim's memory back")
    assert daemon.api("DELETE", "/containers/loud?force=1").status == 204


@pytest.fixture
def strict(fresh_daemon):
    """A daemon with little patience and few connections."""
    fresh_daemon.write_ini({"daemon": {"request_timeout": "2", "max_connections": "24"}})
    return fresh_daemon.start()


def drip(connection, data, seconds=0.2):
    """Sends byte by byte. True where the daemon ended it."""
    for byte in data:
        try:
            connection.send(bytes([byte]))
        except OSError:
            return True
        connection.sock.settimeout(seconds)
        try:
            if connection.sock.recv(1) == b"":
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


def test_clients_that_never_finish(strict):
    endless = b"x" * 200
    with Wire(strict) as kept:
        kept.request("GET", "/_ping").head()
        kept.exactly(2)
        beginnings = [b"GET /_ping HTTP/1.1\r\nHost: x\r\nX-Slow: ",
                      b"POST /volumes/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 300\r\n\r\n{\"Name\": \"",
                      b"DELETE /volumes/none HTTP/1.1\r\nHost: x\r\nContent-Length: 300\r\n\r\n"]
        ended = []

        def slow(beginning):
            with Wire(strict) as connection:
                connection.send(beginning)
                ended.append(drip(connection, endless))
        threads = [threading.Thread(target=slow, args=(beginning,)) for beginning in beginnings * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ended == [True] * 6
        # A kept connection without a request has time, and a body that is a stream has as much as it takes.
        assert kept.request("GET", "/_ping").head()[0] == 200
    start(strict, "target", "sleep", "600")
    with Wire(strict) as connection:
        archive = b"\0" * 10240       # an empty one
        connection.send(b"PUT /containers/target/archive?path=/tmp HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(archive))
        assert not drip(connection, archive[:16])
        connection.send(archive[16:])
        connection.sock.settimeout(60)
        assert connection.head()[0] == 200


def test_a_crowd_of_clients(strict):
    """More than there is room for: some are refused, those who do nothing are ended, and then everyone is served."""
    fds = len(os.listdir(f"/proc/{strict.process.pid}/fd"))

    def answered():
        with contextlib.suppress(OSError, http.client.HTTPException):
            return strict.api("GET", "/_ping").status == 200
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            connection = stack.enter_context(Wire(strict))
            with contextlib.suppress(OSError):
                connection.send(b"GET /_ping HT")
        wait_until(answered, 20, "room for one more")
        served(strict)
    assert "max_connections" in strict.log()
    wait_until(lambda: len(os.listdir(f"/proc/{strict.process.pid}/fd")) <= fds + 2, 20, "the descriptors back")
    served(strict)


# ---- nobody ----

def test_who_is_idle_does_nothing(fresh_daemon):
    """No clock ticks in the daemon or in a shim: no thread of theirs goes to sleep anew, as none wakes up."""
    count = 10 if sanitized() else 40
    d = fresh_daemon.start()
    shims = [shim(start(d, f"idle-{number}", "sleep", "600", NetworkMode="bridge" if number % 10 == 0 else "none",
                        RestartPolicy={"Name": "always" if number % 2 else "no"})) for number in range(count)]

    def still():
        before = [switches(pid) for pid in (d.process.pid, *shims)]
        time.sleep(2)
        return sum(now - then for now, then in zip((switches(pid) for pid in (d.process.pid, *shims)), before)) == 0
    wait_until(still, 40, "two seconds in which nobody does anything")
    d.restart(crash=True)
    wait_until(still, 40, "the same after another start of the daemon")
