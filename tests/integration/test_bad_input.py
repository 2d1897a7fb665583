"""What attackers and typing errors send: one clear sentence, the right status, nothing left behind."""

import json
import socket

import pytest

from harness import IMAGE, SLOW


def message(response):
    return json.loads(response.body)["message"]


def short(value):
    return value[:60].decode(errors="replace") if isinstance(value, bytes) else None


@pytest.mark.parametrize("body, status", [
    (b"", 400), (b"{", 400), (b"[]", 400), (b'"text"', 400), (b'{"Image": 7}', 400), (b"\xff\xfe", 400), (b"[" * (1 << 20), 400),
    (b'{"a":' * 200000, 400), (json.dumps({"Image": IMAGE, "Cmd": "x\0y"}).encode(), 400),
    (json.dumps({"Image": IMAGE, "Labels": {"x": "y" * (5 << 20)}}).encode(), 413),
    (json.dumps({"Image": "no-such"}).encode(), 404),
    (json.dumps({"Image": "lower/CASE"}).encode(), 400),
    (json.dumps({"Image": ""}).encode(), 400),
    (json.dumps({"Image": IMAGE, "HostConfig": {"NetworkMode": "no-such-network"}}).encode(), 400),
    (json.dumps({"Image": IMAGE, "HostConfig": {"Memory": 1000}}).encode(), 400),
    (json.dumps({"Image": IMAGE, "HostConfig": {"RestartPolicy": {"Name": "sometimes"}}}).encode(), 400),
    (json.dumps({"Image": IMAGE, "HostConfig": {"AutoRemove": True, "RestartPolicy": {"Name": "always"}}}).encode(), 400),
    (json.dumps({"Image": IMAGE, "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "99999"}]}}}).encode(), 400),
    (json.dumps({"Image": IMAGE, "HostConfig": {"PidMode": "container:nobody"}}).encode(), 400),
    (json.dumps({"Image": IMAGE, "HostConfig": {"ExtraHosts": ["bad"]}}).encode(), 400),
    (json.dumps({"Image": IMAGE, "HostConfig": {"ExtraHosts": ["name:no-address"]}}).encode(), 400),
    (json.dumps({"Image": IMAGE, "HostConfig": {"LogConfig": {"Type": "json-file", "Config": {"nothing": "1"}}}}).encode(), 400),
    (json.dumps({"Image": IMAGE, "HostConfig": {"Runtime": "other"}}).encode(), 400),
    (json.dumps({"Image": IMAGE, "Env": ["=x"]}).encode(), 400),
    (json.dumps({"Image": IMAGE, "WorkingDir": "relative"}).encode(), 400),
    (json.dumps({"Image": IMAGE, "HostConfig": {"VolumesFrom": ["nobody"]}}).encode(), 400),
    (json.dumps({"Image": IMAGE, "HostConfig": {"CgroupParent": "../../x"}}).encode(), 400),
], ids=short)
def test_create(daemon, body, status):
    response = daemon.api("POST", "/containers/create", body, {"Content-Type": "application/json"})
    assert response.status == status, (response.status, response.body[:300])
    assert len(message(response)) > 10
    if response.status == 201:
        daemon.api("DELETE", "/containers/" + json.loads(response.body)["Id"])
    assert daemon.json("GET", "/containers/json?all=1") == []


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "a b", "x" * 300, "%00", "-flag"])
def test_names(daemon, name):
    from urllib.parse import quote
    response = daemon.api("POST", "/containers/create?name=" + (name if name == "%00" else quote(name, safe="")), {"Image": IMAGE})
    assert response.status == 400, response.body
    assert daemon.json("GET", "/containers/json?all=1") == []


@pytest.mark.parametrize("path, status", [
    ("/containers/..%2f..%2fetc/json", (400, 404)), ("/containers/../../etc/json", (400, 404)), ("/nothing/here", (404,)),
    ("/containers/json?filters=nonsense", (400,)), ("/containers/json?filters=%7B%22x%22%3A7%7D", (400,)),
    ("/containers/json?filters=%7B%22status%22%3A%5B%22flying%22%5D%7D", (400,)),
    ("/containers/json?limit=x", (400,)), ("/images/..%2f..%2fetc%2fpasswd/json", (400, 404)), ("/volumes/..%2fx", (400, 404)),
    ("/networks/nothing", (404,)), ("/events?since=never", (400,)),
])
def test_paths_and_queries(daemon, path, status):
    response = daemon.api("GET", path)
    assert response.status in status, (response.status, response.body)
    assert len(message(response)) > 5


@pytest.mark.parametrize("version, status", [("/v1.24", 200), ("/v1.50", 200), ("", 200), ("/v1.51", 400), ("/v1.23", 400), ("/v9.9", 400)])
def test_versions(daemon, version, status):
    response = daemon.api("GET", "/version", version=version)
    assert response.status == status
    if status == 400:
        assert "version" in message(response)


def raw(daemon, data):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(20 * SLOW)
    s.connect(daemon.socket)
    try:
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    try:
        return s.recv(65536)
    except ConnectionResetError:
        return b""
    finally:
        s.close()


def test_http_that_is_none(daemon):
    for data in (b"GET / HTTP/1.1\r\nHost: x\r\nX-Big: " + b"a" * (1 << 20), b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-Many: a\r\n" * 100000,
                 b"\0\0\0\0\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"GET /" + b"a" * 100000):
        answer = raw(daemon, data + b"\r\n\r\n")
        assert answer == b"" or answer.split(b" ")[1][:1] in (b"4", b"5"), answer[:100]
    assert daemon.api("GET", "/_ping").status == 200


def test_a_client_that_hangs_up_stops_nothing(daemon):
    daemon.docker("run", "-d", "--name", "c1", IMAGE, "sh", "-c", "while true; do echo x; done")
    for path in ("/containers/c1/logs?follow=1&stdout=1", "/events", "/containers/c1/stats", "/containers/c1/export"):
        s = socket.socket(socket.AF_UNIX)
        s.connect(daemon.socket)
        s.sendall(f"GET /v1.50{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        s.recv(100)
        s.close()
    assert daemon.api("GET", "/_ping").status == 200


def test_unsupported_things_are_refused_by_name(daemon):
    for path, word in (("/swarm", "swarm"), ("/services", "swarm"), ("/nodes", "swarm")):
        response = daemon.api("GET", path)
        assert response.status in (501, 503) and word in message(response)
    response = daemon.api("POST", "/containers/create", {"Image": IMAGE, "HostConfig": {"Isolation": "hyperv"}})
    assert response.status in (400, 501) and "hyperv" in message(response)


def test_a_device_that_is_missing_is_told_at_start(daemon):
    result = daemon.docker("run", "--device", "/dev/no-such", IMAGE, "true", check=False)
    assert result.code in (125, 127) and "/dev/no-such" in result.err
