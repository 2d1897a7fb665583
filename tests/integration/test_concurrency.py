"""Many clients at once: one winner, clear conflicts, nobody waits for a stalled one, and nothing grows."""

import collections
import json
import os
import threading
import time

import pytest

from harness import IMAGE, sanitized, wait_until
from wire import UPGRADE, Wire

CYCLES = int(os.environ.get("GT_CYCLES", "20" if sanitized() else "60"))      # 2000 by hand
CLIENTS = 40 if sanitized() else 200


def create(daemon, *cmd, name="c1", host=None, **config):
    return daemon.json("POST", f"/containers/create?name={name}", {"Image": IMAGE, "Cmd": list(cmd), "HostConfig": host or {}, **config})["Id"]


def all_at_once(count, work):
    """work(i) in count threads that begin together; what they returned. An exception fails the test."""
    gate, results, failures = threading.Barrier(count), [None] * count, []

    def body(i):
        try:
            gate.wait()
            results[i] = work(i)
        except Exception as e:                  # noqa: BLE001: told below
            failures.append(repr(e))
    threads = [threading.Thread(target=body, args=(i,)) for i in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures, failures[:5]
    return results


def statuses(daemon, count, method, path, body=None):
    return collections.Counter(r.status for r in all_at_once(count, lambda i: daemon.api(method, path, body, timeout=120)))


def test_one_winner(daemon):
    made = statuses(daemon, 20, "POST", "/containers/create?name=c1", {"Image": IMAGE, "Cmd": ["sleep", "1000"]})
    assert made == {201: 1, 409: 19}
    assert statuses(daemon, 20, "POST", "/containers/c1/start") == {204: 1, 304: 19}
    assert statuses(daemon, 20, "POST", "/containers/c1/pause") == {204: 1, 409: 19}
    assert statuses(daemon, 20, "POST", "/containers/c1/unpause") == {204: 1, 409: 19}
    assert statuses(daemon, 20, "POST", "/containers/c1/stop?t=0") == {204: 1, 304: 19}
    removed = statuses(daemon, 20, "DELETE", "/containers/c1?force=1")
    assert removed[204] == 1 and set(removed) <= {204, 404, 409}
    for kind in ("networks", "volumes"):
        statuses(daemon, 20, "POST", f"/{kind}/create", {"Name": "same"})
        assert len([n for n in (daemon.json("GET", "/networks") if kind == "networks" else daemon.json("GET", "/volumes")["Volumes"]) if n["Name"] == "same"]) == 1
        assert statuses(daemon, 20, "DELETE", f"/{kind}/same")[204] == 1


def test_start_stop_and_remove_in_any_order_end_in_order(daemon):
    for _ in range(3):
        create(daemon, "sleep", "1000")
        calls = [("POST", "/start"), ("POST", "/stop?t=0"), ("POST", "/restart?t=0"), ("POST", "/kill"), ("GET", "/json"), ("DELETE", "?force=1")]
        answers = all_at_once(24, lambda i: daemon.api(calls[i % 6][0], "/containers/c1" + calls[i % 6][1], timeout=120))
        bad = [(a.status, a.body) for a in answers if a.status not in (200, 204, 304, 404, 409)]
        assert not bad, bad
        assert daemon.json("GET", "/containers/json?all=1") == []


def life(daemon, i):
    name = f"m{i}"
    cid = create(daemon, "sh", "-c", "echo hello; exec sleep 1000", name=name, host={"NetworkMode": "none"})
    assert daemon.api("POST", f"/containers/{name}/start", timeout=120).status == 204
    assert daemon.json("GET", f"/containers/{cid}/json")["State"]["Running"]
    made = daemon.json("POST", f"/containers/{cid[:12]}/exec", {"Cmd": ["echo", "x"], "AttachStdout": True})["Id"]
    with Wire(daemon, 60) as connection:
        assert connection.request("POST", f"/exec/{made}/start", b"{}", UPGRADE).head()[0] == 101
        assert connection.frames()[1] == b"x\n"
    wait_until(lambda: daemon.api("GET", f"/containers/{name}/logs?stdout=1").body.endswith(b"hello\n"), what="the first process's line")
    assert daemon.api("DELETE", f"/containers/{name}?force=1", timeout=120).status == 204


def look(daemon, i):
    for path in ("/containers/json?all=1", "/images/json", "/networks", "/volumes", "/info", "/version", f"/images/{IMAGE.replace('/', '%2F')}/json",
                 "/containers/still/json", "/containers/still/logs?stdout=1", "/events?since=0&until=1"):
        assert daemon.api("GET", path, timeout=120).status == 200
    assert daemon.api("GET", "/containers/nobody/json").status == 404


def test_many_clients_on_a_mix_of_calls(daemon):
    create(daemon, "sleep", "1000", name="still")
    daemon.api("POST", "/containers/still/start")
    all_at_once(CLIENTS, lambda i: (life if i % 5 == 0 else look)(daemon, i))
    assert [c["Names"] for c in daemon.json("GET", "/containers/json?all=1")] == [["/still"]]


def test_a_stalled_client_holds_up_nobody(daemon):
    create(daemon, "sh", "-c", "yes", name="loud", host={"LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}}})
    daemon.api("POST", "/containers/loud/start")
    stalled = []
    try:
        for method, path in (("GET", "/containers/loud/logs?stdout=1&follow=1"), ("GET", "/containers/loud/export"), ("GET", "/events"),
                             ("GET", "/containers/loud/stats"), ("POST", "/containers/loud/attach?stream=1&stdout=1")) * 3:
            connection = Wire(daemon)
            connection.request(method, path, b"" if method == "POST" else None, UPGRADE if method == "POST" else ())
            stalled.append(connection)          # and never reads
        for beginning in (b"GET /info HT", b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"):
            connection = Wire(daemon)
            connection.send(beginning)          # and never goes on
            stalled.append(connection)
        for i in range(5):
            life(daemon, i)
            assert daemon.api("GET", "/_ping", timeout=10).status == 200
        assert daemon.api("POST", "/containers/loud/kill", timeout=30).status == 204
    finally:
        for connection in stalled:
            connection.sock.close()
    wait_until(lambda: daemon.state("loud") == "exited", what="the end of the loud one")


def resident(daemon):
    with open(f"/proc/{daemon.process.pid}/status") as f:
        return int(next(line for line in f if line.startswith("VmRSS")).split()[1])


def test_nothing_grows(fresh_daemon):
    daemon = fresh_daemon.start()

    def cycle(i):
        create(daemon, "true", name=f"g{i}")
        assert daemon.api("POST", f"/containers/g{i}/start").status == 204
        daemon.json("POST", f"/containers/g{i}/wait")
        assert daemon.api("DELETE", f"/containers/g{i}").status == 204
    for i in range(40):
        cycle(i)
    time.sleep(0.3)
    fds, memory = len(os.listdir(f"/proc/{daemon.process.pid}/fd")), resident(daemon)
    begin = time.monotonic()
    for i in range(CYCLES):
        cycle(1000 + i)
    took = time.monotonic() - begin
    wait_until(lambda: len(os.listdir(f"/proc/{daemon.process.pid}/fd")) <= fds, what=f"no more than {fds} descriptors")
    grown = resident(daemon) - memory
    print(f"{CYCLES} cycles in {took:.1f} s: {memory} kB and {grown} kB more, {fds} descriptors")
    if not sanitized():                         # a sanitizer keeps freed memory
        assert grown < 1500, f"{grown} kB more after {CYCLES} cycles"


@pytest.mark.skipif("GT_MANY" not in os.environ, reason="by hand: GT_MANY=300")
def test_lists_of_many_are_quick(fresh_daemon):
    daemon = fresh_daemon.start()
    for i in range(int(os.environ["GT_MANY"])):
        create(daemon, "sleep", "1000", name=f"n{i}", host={"NetworkMode": "none"})
        assert daemon.api("POST", f"/containers/n{i}/start").status == 204
    for path in ("/containers/json", "/containers/json?all=1&filters=" + json.dumps({"name": ["n7"]}).replace(" ", "")):
        for _ in range(5):
            daemon.api("GET", path)
    print([line.split("ms=")[1].split()[0] for line in daemon.log().splitlines() if "containers/json" in line])


def test_files_of_a_stopped_container_for_many_at_once(daemon):
    create(daemon, "true")
    for _ in range(5):
        assert statuses(daemon, 8, "GET", "/containers/c1/archive?path=/etc/passwd") == {200: 8}


def test_files_of_a_container_that_ends_meanwhile(daemon):
    """The process may be gone and its exit not told yet: the files are there all the same."""
    create(daemon, "sh", "-c", "echo kept > /f; exec sleep 0.15", name="ends")
    for _ in range(CYCLES // 4):
        daemon.api("POST", "/containers/ends/start")
        wait_until(lambda: daemon.api("HEAD", "/containers/ends/archive?path=/f").status == 200)
        seen = collections.Counter()

        def read(_):
            while daemon.state("ends") == "running":
                seen[daemon.api("GET", "/containers/ends/archive?path=/f").status] += 1
                seen[daemon.api("HEAD", "/containers/ends/archive?path=/f").status] += 1
        all_at_once(4, read)
        assert set(seen) <= {200}, seen
