"""docker-compose 1.29, unmodified: what people do with a project of three services."""

import json
import os
import re
import shutil

import pytest

from harness import IMAGE, wait_until

COMPOSE = shutil.which("docker-compose")
pytestmark = pytest.mark.skipif(not COMPOSE, reason="docker-compose is not installed (scripts/install-dependencies --tests)")

FILE = f"""
version: "2.4"
services:
  db:
    image: {IMAGE}
    command: ["sh", "-c", "echo db is up; touch /data/ready; exec sleep 1000"]
    volumes:
      - data:/data
    networks:
      back:
        aliases: [database]
    healthcheck:
      test: ["CMD", "test", "-e", "/data/ready"]
      interval: 200ms
      timeout: 2s
      retries: 20
    labels:
      tier: storage
  worker:
    image: {IMAGE}
    command: ["sh", "-c", "echo worker $$NAME starts; exec sleep 1000"]
    environment:
      NAME: bee
    depends_on:
      db:
        condition: service_healthy
    networks: [back]
    mem_limit: 64m
    stop_grace_period: 1s
    stop_signal: SIGKILL
  web:
    image: {IMAGE}
    command: ["httpd", "-f", "-p", "80", "-h", "/www"]
    depends_on: [worker]
    volumes:
      - ./www:/www:ro
      - type: tmpfs
        target: /scratch
    ports:
      - "18080:80"
    networks: [front, back]
    restart: unless-stopped
    stop_signal: SIGKILL
networks:
  front: {{}}
  back:
    driver: bridge
    ipam:
      config:
        - subnet: 10.87.0.0/24
volumes:
  data:
    labels:
      kept: "no"
"""


@pytest.fixture
def project(daemon):
    path = os.path.join(daemon.dir, "shop")
    os.makedirs(os.path.join(path, "www"))
    with open(os.path.join(path, "docker-compose.yml"), "w") as f:
        f.write(FILE)
    with open(os.path.join(path, "www", "index.html"), "w") as f:
        f.write("hello from compose\n")

    def compose(*args, **kw):
        return daemon.command(COMPOSE, "--no-ansi", "--project-directory", path, "-f", os.path.join(path, "docker-compose.yml"), *args, **kw)
    yield compose
    shutil.rmtree(path)


def address(daemon, container, network):
    return daemon.inspect(container)["NetworkSettings"]["Networks"][network]["IPAddress"]


def ping(project, service, name):
    """The address that a service reaches under a name."""
    return re.search(r"PING \S+ \((\S+)\).*\n.*bytes from", project("exec", "-T", service, "ping", "-c1", "-W2", name).out).group(1)


def test_a_project_from_up_to_down(daemon, project):
    project("up", "-d")
    assert daemon.inspect("shop_db_1")["State"]["Health"]["Status"] == "healthy"
    started = [daemon.inspect(f"shop_{name}_1")["State"]["StartedAt"] for name in ("db", "worker", "web")]
    assert started == sorted(started)

    ids = project("ps", "-q").out.split()
    assert len(ids) == 3
    assert re.search(r"shop_db_1\s.*Up \(healthy\)", project("ps").out)
    assert "hello from compose" in daemon.command("busybox", "wget", "-qO-", "http://127.0.0.1:18080/").out

    web = daemon.inspect("shop_web_1")
    assert set(web["NetworkSettings"]["Networks"]) == {"shop_front", "shop_back"}
    assert web["Config"]["Labels"]["com.docker.compose.service"] == "web"
    assert {m["Destination"]: m["Type"] for m in web["Mounts"]} == {"/www": "bind", "/scratch": "tmpfs"}
    assert daemon.inspect("shop_worker_1")["HostConfig"]["Memory"] == 64 << 20
    assert "database" in daemon.inspect("shop_db_1")["NetworkSettings"]["Networks"]["shop_back"]["Aliases"]
    assert daemon.json("GET", "/volumes/shop_data")["Labels"]["kept"] == "no"

    assert project("exec", "-T", "worker", "sh", "-c", "echo $NAME; exit 3", check=False).out == "bee\n"
    assert project("exec", "-T", "worker", "sh", "-c", "exit 3", check=False).code == 3
    assert "worker bee starts" in project("logs", "worker").out
    assert "18080" in project("port", "web", "80").out
    assert "sleep 1000" in project("top", "worker").out

    # Nothing to do: nothing is done.
    again = project("up", "-d")
    assert "up-to-date" in again.err and project("ps", "-q").out.split() == ids

    # Services know each other by name, and over their networks only.
    assert "hello from compose" in project("exec", "-T", "worker", "wget", "-qO-", "http://web/").out
    assert ping(project, "worker", "database") == ping(project, "worker", "db") == address(daemon, "shop_db_1", "shop_back")
    assert ping(project, "db", "shop_web_1") == address(daemon, "shop_web_1", "shop_back")

    project("up", "-d", "--scale", "worker=3")
    found = project("exec", "-T", "web", "nslookup", "-type=a", "worker").out
    assert set(re.findall(r"10\.87\.\d+\.\d+", found)) == {address(daemon, f"shop_worker_{i}", "shop_back") for i in (1, 2, 3)}
    assert len(daemon.json("GET", "/containers/json?filters=" + json.dumps({"label": ["com.docker.compose.service=worker"]}).replace(" ", ""))) == 3
    project("up", "-d", "--scale", "worker=1")
    assert len(project("ps", "-q", "worker").out.split()) == 1

    project("down", "-v", "-t", "0")
    assert daemon.json("GET", "/containers/json?all=1") == []
    assert [n["Name"] for n in daemon.json("GET", "/networks") if n["Name"].startswith("shop")] == []
    assert not daemon.json("GET", "/volumes")["Volumes"]


def test_stop_start_restart_and_pause(daemon, project):
    project("up", "-d", "db", "worker")
    project("pause", "worker")
    assert daemon.state("shop_worker_1") == "paused"
    project("unpause", "worker")
    project("restart", "-t", "0", "worker")
    project("stop", "-t", "0", "worker")
    assert daemon.state("shop_worker_1") == "exited"
    project("start", "worker")
    assert daemon.state("shop_worker_1") == "running"
    project("kill", "worker")
    wait_until(lambda: daemon.state("shop_worker_1") == "exited", what="the end")
    project("rm", "-f", "worker")
    assert daemon.api("GET", "/containers/shop_worker_1/json").status == 404


LINKED = f"""
version: "2.4"
services:
  store:
    image: {IMAGE}
    command: ["sleep", "1000"]
    stop_signal: SIGKILL
    mac_address: 02:42:0a:56:00:77
    networks:
      inner:
        ipv4_address: 10.86.0.77
  front:
    image: {IMAGE}
    command: ["sleep", "1000"]
    stop_signal: SIGKILL
    links: ["store:mysql"]
    extra_hosts: ["elsewhere:192.0.2.9"]
    dns_search: [example.test]
    networks: [inner]
  aside:
    image: {IMAGE}
    command: ["sleep", "1000"]
    stop_signal: SIGKILL
    network_mode: "service:store"
    ulimits:
      nofile: {{soft: 100, hard: 200}}
    logging: {{driver: json-file, options: {{max-size: 1m}}}}
  stray:
    image: {IMAGE}
    command: ["sleep", "1000"]
    stop_signal: SIGKILL
    sysctls: {{net.ipv4.ip_unprivileged_port_start: 80}}
    networks: [outer]
networks:
  inner:
    internal: true
    ipam: {{config: [{{subnet: 10.86.0.0/24}}]}}
  outer:
    enable_ipv6: true
    ipam: {{config: [{{subnet: 10.85.0.0/24}}, {{subnet: "fd00:85::/64"}}]}}
"""


def test_names_links_and_shared_namespaces(daemon, project):
    with open(os.path.join(daemon.dir, "shop", "docker-compose.yml"), "w") as f:
        f.write(LINKED)
    project("up", "-d")
    assert ping(project, "front", "mysql") == ping(project, "front", "store") == "10.86.0.77"
    assert daemon.inspect("shop_store_1")["NetworkSettings"]["Networks"]["shop_inner"]["MacAddress"] == "02:42:0a:56:00:77"
    assert "192.0.2.9" in project("exec", "-T", "front", "cat", "/etc/hosts").out
    assert "search example.test" in project("exec", "-T", "front", "cat", "/etc/resolv.conf").out
    assert "10.86.0.77" in project("exec", "-T", "aside", "ip", "addr").out
    assert project("exec", "-T", "aside", "sh", "-c", "ulimit -n").out == "100\n"
    assert project("exec", "-T", "stray", "ping", "-c1", "-W1", "store", check=False).code != 0
    assert "fd00:85::" in project("exec", "-T", "stray", "ip", "addr").out
    assert project("exec", "-T", "stray", "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start").out == "80\n"
    daemon.kill9()
    daemon.start()
    assert ping(project, "front", "mysql") == "10.86.0.77"
    project("down")
    assert daemon.json("GET", "/containers/json?all=1") == []


def test_a_changed_service_is_made_anew_and_keeps_its_volume(daemon, project):
    project("up", "-d", "db")
    before = daemon.inspect("shop_db_1")["Id"]
    project("exec", "-T", "db", "sh", "-c", "echo precious > /data/file")
    path = os.path.join(daemon.dir, "shop", "docker-compose.yml")
    with open(path) as f:
        text = f.read()
    with open(path, "w") as f:
        f.write(text.replace("tier: storage", "tier: other"))
    project("up", "-d", "-t", "0", "db")
    after = daemon.inspect("shop_db_1")
    assert after["Id"] != before and after["Config"]["Labels"]["tier"] == "other"
    assert project("exec", "-T", "db", "cat", "/data/file").out == "precious\n"


def test_up_in_the_foreground_ends_with_its_services(daemon, project):
    path = os.path.join(daemon.dir, "shop", "docker-compose.yml")
    with open(path, "w") as f:
        f.write(f"""
version: "2.4"
services:
  one:
    image: {IMAGE}
    command: ["sh", "-c", "echo first line; sleep 0.3; echo last line; exit 7"]
  two:
    image: {IMAGE}
    command: ["sleep", "100"]
    stop_signal: SIGKILL
""")
    result = project("up", "--abort-on-container-exit", "--exit-code-from", "one", check=False)
    assert result.code == 7 and "first line" in result.out and "last line" in result.out
    assert daemon.state("shop_two_1") == "exited"
