"""The API byte for byte, as clients rely on it: upgrades, frames, half-closes, chunks, heads."""

import base64
import json
import os
import re
import socket
import time
from urllib.parse import quote

import pytest

from harness import IMAGE, wait_until
from wire import UPGRADE, WebSocket, Wire

NANOSECONDS = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,9}Z$")


@pytest.fixture
def wire(daemon):
    with Wire(daemon) as connection:
        yield connection


def create(daemon, *cmd, name="c1", host=None, **config):
    body = {"Image": IMAGE, "Cmd": list(cmd), **config, "HostConfig": host or {}}
    return daemon.json("POST", f"/containers/create?name={name}", body)["Id"]


def start(daemon, ref="c1"):
    assert daemon.api("POST", f"/containers/{ref}/start").status == 204


def attach(daemon, query, ref="c1", upgrade=UPGRADE, version="v1.50"):
    connection = Wire(daemon)
    connection.request("POST", f"/{version}/containers/{ref}/attach?{query}", b"", upgrade)
    return connection, *connection.head()


ALL = "stream=1&stdin=1&stdout=1&stderr=1"
SAYS = ("sh", "-c", "echo out; echo err >&2; cat; echo end; exit 3")


# ---- hijacked connections ----

@pytest.mark.parametrize("upgrade", [UPGRADE, ()], ids=["upgrade", "plain"])
def test_attach_before_start_misses_nothing_and_passes_a_half_close_on(daemon, upgrade):
    create(daemon, *SAYS, OpenStdin=True, StdinOnce=True, AttachStdin=True)
    connection, status, headers = attach(daemon, ALL, upgrade=upgrade)
    with connection:
        if upgrade:
            assert status == 101 and headers["upgrade"] == "tcp" and headers["connection"].lower() == "upgrade"
        else:
            assert status == 200 and "transfer-encoding" not in headers and "content-length" not in headers
        assert headers["content-type"] == "application/vnd.docker.multiplexed-stream"
        start(daemon)
        connection.send(b"through\n")
        connection.sock.shutdown(socket.SHUT_WR)
        assert connection.frames() == {1: b"out\nthrough\nend\n", 2: b"err\n"}
    assert daemon.json("POST", "/containers/c1/wait")["StatusCode"] == 3


def test_before_1_42_every_stream_is_called_raw(daemon):
    create(daemon, "echo", "x")
    connection, status, headers = attach(daemon, "stream=1&stdout=1", version="v1.41")
    with connection:
        assert status == 101 and headers["content-type"] == "application/vnd.docker.raw-stream"
        start(daemon)
        assert connection.frames()[1] == b"x\n"
    for version, kind in (("v1.41", "raw"), ("v1.42", "multiplexed")):
        assert daemon.api("GET", "/containers/c1/logs?stdout=1", version="/" + version).headers["Content-Type"] == f"application/vnd.docker.{kind}-stream"


def test_a_terminal_is_raw_and_takes_its_size_before_the_start_and_after(daemon):
    create(daemon, "sh", "-c", "stty size; read x; stty size; read x; echo got $x", Tty=True, OpenStdin=True, host={"ConsoleSize": [11, 22]})
    connection, status, headers = attach(daemon, ALL)
    with connection:
        assert status == 101 and headers["content-type"] == "application/vnd.docker.raw-stream"
        assert daemon.api("POST", "/containers/c1/resize?h=33&w=44").status == 409
        start(daemon)
        assert b"11 22\r\n" in connection.until(b"22\r\n")
        assert daemon.api("POST", "/containers/c1/resize?h=33&w=44").status == 200
        connection.send(b"\n")
        assert b"33 44\r\n" in connection.until(b"44\r\n")
        connection.send(b"word\n")
        assert connection.rest().endswith(b"got word\r\n")
    assert daemon.api("POST", "/containers/c1/resize?h=x&w=44").status == 400


@pytest.mark.parametrize("keys, typed", [("", b"\x10\x11"), ("ctrl-a,x", b"\x01x")], ids=["default", "chosen"])
def test_detach_keys_end_the_session_and_not_the_container(daemon, keys, typed):
    create(daemon, "cat", Tty=True, OpenStdin=True)
    start(daemon)
    connection, status, _ = attach(daemon, ALL + ("&detachKeys=" + keys if keys else ""))
    with connection:
        assert status == 101
        connection.send(b"hello\n")
        connection.until(b"hello\r\nhello\r\n")
        connection.send(typed[:1])
        connection.send(typed[1:])
        connection.rest()
    assert daemon.state("c1") == "running"
    assert attach(daemon, ALL + "&detachKeys=nonsense")[1] == 400


def test_bytes_sent_along_with_the_request_are_stdin(daemon):
    create(daemon, "cat", OpenStdin=True, StdinOnce=True)
    start(daemon)
    with Wire(daemon) as connection:
        head = f"POST /containers/c1/attach?{ALL} HTTP/1.1\r\nHost: x\r\nUpgrade: tcp\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n"
        connection.send(head.encode() + b"early ")
        assert connection.head()[0] == 101
        connection.send(b"late\n")
        connection.sock.shutdown(socket.SHUT_WR)
        assert connection.frames()[1] == b"early late\n"


def test_attach_replays_the_log_first(daemon):
    create(daemon, "sh", "-c", "echo before; read x; echo after", OpenStdin=True)
    start(daemon)
    wait_until(lambda: b"before" in daemon.api("GET", "/containers/c1/logs?stdout=1").body, what="the first line")
    connection, status, _ = attach(daemon, ALL + "&logs=1")
    with connection:
        assert status == 101
        connection.send(b"\n")
        assert connection.frames()[1] == b"before\nafter\n"
    connection, status, _ = attach(daemon, "logs=1&stdout=1")
    with connection:
        assert (status, connection.frames()[1]) == (101, b"before\nafter\n")


@pytest.mark.parametrize("tty", [False, True])
@pytest.mark.parametrize("upgrade", [UPGRADE, ()], ids=["upgrade", "plain"])
def test_exec_on_the_wire(daemon, upgrade, tty):
    create(daemon, "sleep", "100")
    start(daemon)
    made = daemon.json("POST", "/containers/c1/exec", {"AttachStdin": True, "AttachStdout": True, "AttachStderr": True, "Tty": tty,
                                                       "Cmd": ["sh", "-c", "echo e >&2; head -n 1; exit 5"]})["Id"]
    with Wire(daemon) as connection:
        connection.request("POST", f"/exec/{made}/start", json.dumps({"Tty": tty, "ConsoleSize": [10, 20] if tty else None}).encode(), upgrade)
        status, headers = connection.head()
        assert status == (101 if upgrade else 200)
        assert headers["content-type"] == ("application/vnd.docker.raw-stream" if tty else "application/vnd.docker.multiplexed-stream")
        if tty:
            connection.until(b"e\r\n")
            connection.send(b"line\n")
            assert connection.rest() == b"line\r\nline\r\n"
        else:
            connection.send(b"line\n")
            connection.sock.shutdown(socket.SHUT_WR)
            assert connection.frames() == {1: b"line\n", 2: b"e\n"}
    wait_until(lambda: daemon.json("GET", f"/exec/{made}/json")["ExitCode"] == 5, what="the exit code")


def test_refusals_come_before_the_upgrade(daemon):
    for path in (f"/containers/nobody/attach?{ALL}", "/exec/nobody/start"):
        with Wire(daemon) as connection:
            status, headers = connection.request("POST", path, b"{}", UPGRADE).head()
            assert status == 404 and headers["content-type"] == "application/json"
            assert json.loads(connection.body(headers))["message"]
    create(daemon, "sleep", "100")
    start(daemon)
    daemon.api("POST", "/containers/c1/pause")
    connection, status, headers = attach(daemon, ALL)
    with connection:
        assert status == 409 and b"paused" in connection.body(headers)
    daemon.api("POST", "/containers/c1/unpause")


# ---- websockets ----

def test_attach_through_a_websocket(daemon):
    create(daemon, *SAYS, OpenStdin=True, StdinOnce=True)
    start(daemon)
    wait_until(lambda: len(daemon.api("GET", "/containers/c1/logs?stdout=1&stderr=1").body) == 2 * 8 + len(b"out\nerr\n"), what="both lines in the log")
    with WebSocket(daemon) as socket_:
        status, headers = socket_.open(f"/v1.50/containers/c1/attach/ws?{ALL}&logs=1")
        assert status == 101 and headers["upgrade"].lower() == "websocket"
        assert headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        socket_.put(b"ping", opcode=9)
        socket_.put(b"one ")
        socket_.put(b"tw", opcode=2, fin=False)
        socket_.put(b"o\n", opcode=0)
        seen, pong = b"", None
        while b"one two\n" not in seen:
            opcode, data = socket_.get()
            if opcode == 10:
                pong = data
            else:
                assert opcode == 2
                seen += data
        assert pong == b"ping" and b"out\n" in seen and b"err\n" in seen
        big = b"x" * 200000 + b"\n"
        socket_.put(big)
        assert socket_.text(b"x\n") == big
        socket_.put(b"\x03\xe8", opcode=8)
        frames = []
        while not frames or frames[-1][0] != 8:
            frames.append(socket_.get())
        socket_.rest()
    assert daemon.json("POST", "/containers/c1/wait")["StatusCode"] == 3


def test_a_websocket_ends_with_its_container(daemon):
    create(daemon, "sh", "-c", "read x; exit 0", OpenStdin=True)
    with WebSocket(daemon) as socket_:
        assert socket_.open(f"/containers/c1/attach/ws?{ALL}")[0] == 101
        start(daemon)
        socket_.put(b"\n", opcode=1)
        assert socket_.get()[0] == 8


def test_what_is_no_websocket_is_refused(daemon):
    create(daemon, "cat", OpenStdin=True)
    start(daemon)
    assert daemon.api("GET", "/containers/c1/attach/ws?stream=1").status == 400
    with WebSocket(daemon) as socket_:
        assert socket_.open("/containers/nobody/attach/ws?stream=1")[0] == 404
    with WebSocket(daemon) as socket_:      # a frame that is not masked is against the protocol
        assert socket_.open(f"/containers/c1/attach/ws?{ALL}")[0] == 101
        socket_.send(b"\x82\x03abc")
        opcode, data = socket_.get()
        assert opcode == 8 and data[:2] == b"\x03\xea"
        socket_.rest()


# ---- heads ----

def test_ping(daemon, wire):
    for method in ("GET", "HEAD"):
        status, headers = wire.request(method, "/_ping").head()
        assert status == 200
        assert headers["api-version"] == "1.50" and headers["docker-experimental"] == "false" and headers["ostype"] == "linux"
        assert headers["server"].startswith("Gantry/") and headers["builder-version"] == "1" and headers["swarm"] == "inactive"
        assert headers["cache-control"] == "no-cache, no-store, must-revalidate" and headers["pragma"] == "no-cache"
        assert headers["content-type"].startswith("text/plain") and "etag" not in headers
        if method == "GET":
            assert wire.body(headers) == b"OK"
    assert wire.request("GET", "/v1.24/_ping").head()[0] == 200


def test_a_head_has_no_body_and_the_connection_goes_on(daemon, wire):
    create(daemon, "true")
    status, headers = wire.request("HEAD", "/containers/c1/archive?path=/etc/passwd").head()
    stat = json.loads(base64.b64decode(headers["x-docker-container-path-stat"]))
    assert status == 200 and stat["name"] == "passwd" and stat["size"] > 0 and stat["linkTarget"] == "" and stat["mode"] == 0o644
    assert re.match(r"\d{4}-\d\d-\d\dT", stat["mtime"])
    assert wire.request("HEAD", "/containers/c1/archive?path=/none").head()[0] == 404
    status, headers = wire.request("GET", "/containers/c1/archive?path=/etc/passwd").head()
    assert status == 200 and headers["content-type"] == "application/x-tar" and "x-docker-container-path-stat" in headers
    assert b"root" in wire.body(headers)


def test_expect_100_continue(daemon, wire):
    body = json.dumps({"Image": IMAGE}).encode()
    head = ["POST /containers/create?name=c1 HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {len(body)}",
            "Expect: 100-continue", "", ""]
    wire.send("\r\n".join(head).encode())
    assert wire.head()[0] == 100
    wire.send(body)
    assert wire.head()[0] == 201
    with Wire(daemon) as other:             # what is refused anyway gets its answer instead of a go-ahead
        other.send(f"PUT /containers/nobody/archive?path=/ HTTP/1.1\r\nHost: x\r\nContent-Length: {1 << 30}\r\nExpect: 100-continue\r\n\r\n".encode())
        assert other.head()[0] == 404


def test_statuses_of_what_is_done_already(daemon, wire):
    create(daemon, "sleep", "100")
    for path, status in (("start", 204), ("start", 304), ("pause", 204), ("pause", 409), ("unpause", 204), ("unpause", 409), ("stop?t=0", 204),
                         ("stop", 304), ("kill", 409), ("pause", 409)):
        got, headers = wire.request("POST", f"/containers/c1/{path}", b"").head()
        assert got == status, path
        if got in (204, 304):
            assert headers.get("content-length", "0") == "0" and "content-type" not in headers
        else:
            assert headers["content-type"] == "application/json"
            assert list(json.loads(wire.body(headers))) == ["message"]
    assert wire.request("POST", "/containers/create?name=c1", json.dumps({"Image": IMAGE}).encode()).head()[0] == 409


def test_versions(daemon):
    for version, status in (("v1.24", 200), ("v1.50", 200), ("v1.23", 400), ("v1.51", 400), ("v2.0", 400)):
        answer = daemon.api("GET", "/containers/json", version="/" + version)
        assert answer.status == status
        if status == 400:
            assert re.match(r"client version [12]\.\d+ is too (old|new)\.", json.loads(answer.body)["message"])
    assert daemon.api("GET", "/containers/json", version="").status == 200


# ---- bodies ----

def test_progress_comes_as_it_happens(daemon, wire):
    tar = daemon.api("GET", f"/images/{quote(IMAGE, safe='')}/get").body
    wire.send(b"POST /images/load HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n\r\n")
    for at in range(0, len(tar), 1 << 20):
        piece = tar[at:at + (1 << 20)]
        wire.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
    wire.send(b"0\r\n\r\n")
    status, headers = wire.head()
    assert status == 200 and headers["transfer-encoding"] == "chunked" and headers["content-type"] == "application/json"
    lines = [json.loads(line) for line in wire.body(headers).splitlines()]
    assert any(line.get("stream", "").startswith("Loaded image") for line in lines)


def test_a_stream_begins_before_there_is_anything_to_say(daemon):
    create(daemon, "sleep", "1000")
    start(daemon)
    for method, path in (("GET", "/containers/c1/logs?stdout=1&follow=1"), ("GET", "/events"), ("POST", "/containers/c1/wait")):
        with Wire(daemon) as connection:
            status, headers = connection.request(method, path).head()
            assert status == 200 and headers["transfer-encoding"] == "chunked"


def test_filters_in_both_forms(daemon):
    create(daemon, "true", Labels={"a": "b"})
    create(daemon, "true", name="c2")
    for form in ({"label": ["a=b"]}, {"label": {"a=b": True}}):
        found = daemon.json("GET", "/containers/json?all=1&filters=" + quote(json.dumps(form)))
        assert [c["Names"] for c in found] == [["/c1"]]
    assert len(daemon.json("GET", "/containers/json?all=1&filters=" + quote('{"label":{"a=b":false}}'))) == 2
    for path in ("/images/json", "/networks", "/volumes", "/events?until=1"):
        bad = daemon.api("GET", path + ("&" if "?" in path else "?") + "filters=" + quote('{"nonsense":["1"]}'))
        assert bad.status == 400 and "nonsense" in json.loads(bad.body)["message"], path


def test_times_have_nanoseconds(daemon):
    cid = create(daemon, "sh", "-c", "echo line; sleep 100")
    start(daemon)
    inspect = daemon.inspect("c1")
    assert NANOSECONDS.match(inspect["Created"]) and NANOSECONDS.match(inspect["State"]["StartedAt"])
    assert inspect["State"]["FinishedAt"] == "0001-01-01T00:00:00Z"
    wait_until(lambda: daemon.api("GET", "/containers/c1/logs?stdout=1").body, what="the line")
    line = daemon.api("GET", "/containers/c1/logs?stdout=1&timestamps=1").body[8:].decode()
    assert NANOSECONDS.match(line.split()[0])
    seen = [json.loads(l) for l in daemon.api("GET", f"/events?since=1&until={time.time():.9f}").body.splitlines()]
    mine = [e for e in seen if e["Actor"]["ID"] == cid]
    assert all(e["timeNano"] // 10**9 == e["time"] for e in mine)
    start_event = next(e for e in mine if e["Action"] == "start")
    at = start_event["timeNano"]
    exact = daemon.api("GET", f"/events?since={at // 10**9}.{at % 10**9:09}&until={at // 10**9}.{at % 10**9:09}").body.splitlines()
    assert [json.loads(l)["Action"] for l in exact] == ["start"]
    assert not daemon.api("GET", f"/events?since={at // 10**9}.{at % 10**9 + 1:09}&until={time.time() - 0.0001:.9f}&filters=" +
                          quote(json.dumps({"container": ["c1"], "event": ["start"]}))).body


def test_ids_by_prefix(daemon):
    cid = create(daemon, "true")
    others = [create(daemon, "true", name=f"o{i}") for i in range(17)]      # two of them begin alike
    assert daemon.json("GET", f"/containers/{cid[:12]}/json")["Id"] == cid
    letters = [c[0] for c in [cid, *others]]
    double = next(l for l in letters if letters.count(l) > 1)
    answer = daemon.api("GET", f"/containers/{double}/json")
    assert answer.status in (400, 404) and json.loads(answer.body)["message"]


# ---- waiting, removal ----

def test_wait_is_armed_before_its_head(daemon):
    create(daemon, "sh", "-c", "exit 7", host={"AutoRemove": True})
    results = {}
    wires = {condition: Wire(daemon) for condition in ("next-exit", "removed")}
    for condition, connection in wires.items():
        connection.request("POST", f"/containers/c1/wait?condition={condition}", b"")
        assert connection.head()[0] == 200
    start(daemon)
    for condition, connection in wires.items():
        results[condition] = json.loads(connection.chunk())
        connection.sock.close()
    assert results == {"next-exit": {"StatusCode": 7}, "removed": {"StatusCode": 7}}
    wait_until(lambda: daemon.api("GET", "/containers/c1/json").status == 404, what="the removal")


def test_wait_tells_why_a_start_failed(daemon):
    create(daemon, "/no/such/program")
    with Wire(daemon) as connection:
        assert connection.request("POST", "/containers/c1/wait?condition=next-exit", b"").head()[0] == 200
        failed = daemon.api("POST", "/containers/c1/start")
        assert failed.status == 400 and "no such file" in json.loads(failed.body)["message"]
        connection.sock.settimeout(0.3)     # it has not exited: it never ran
        with pytest.raises(TimeoutError):
            connection.chunk()
    assert daemon.inspect("c1")["State"]["ExitCode"] == 127


# ---- clients that go away ----

STREAMS = [("GET", "/containers/c1/logs?stdout=1&follow=1"), ("GET", "/events"), ("GET", "/containers/c1/stats"),
           ("POST", "/containers/c1/wait?condition=removed"), ("POST", f"/containers/c1/attach?{ALL}"), ("GET", "/containers/c1/export"),
           ("GET", "/containers/c1/archive?path=/bin"), ("GET", f"/images/{quote(IMAGE, safe='')}/get")]


def test_a_client_that_dies_in_a_stream_leaves_nothing_behind(daemon):
    create(daemon, "sh", "-c", "while true; do echo line; sleep 0.02; done", OpenStdin=True)
    start(daemon)

    def held():
        return len(os.listdir(f"/proc/{daemon.process.pid}/fd")), len(os.listdir(f"/proc/{daemon.process.pid}/task"))
    daemon.api("GET", "/info")
    wait_until(lambda: held() == held(), what="rest")
    time.sleep(0.3)
    before = held()
    for method, path in STREAMS * 3:
        with Wire(daemon) as connection:
            assert connection.request(method, path, b"" if method == "POST" else None, UPGRADE if "attach" in path else ()).head()[0] in (101, 200)
            if "wait" not in path and "events" not in path:
                connection.exactly(1)
    for tty in (False, True, False):
        exec_id = daemon.json("POST", "/containers/c1/exec", {"Cmd": ["sh", "-c", "while echo exec; do sleep 0.02; done"], "AttachStdin": True,
                                                              "AttachStdout": True, "Tty": tty})["Id"]
        with Wire(daemon) as connection:
            assert connection.request("POST", f"/exec/{exec_id}/start", json.dumps({"Tty": tty}).encode(), UPGRADE).head()[0] == 101
            connection.exactly(1)
    for _ in range(3):
        with Wire(daemon) as connection:
            connection.send(b"PUT /containers/c1/archive?path=/tmp HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000)
        with Wire(daemon) as connection:
            connection.send(b"POST /images/load HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000)
    wait_until(lambda: held()[0] <= before[0] and held()[1] <= before[1], 10, f"descriptors and threads as before: {before}")
    assert daemon.state("c1") == "running"
