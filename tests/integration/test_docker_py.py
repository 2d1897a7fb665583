"""python3-docker, unmodified."""

import pytest

docker = pytest.importorskip("docker")

from harness import IMAGE  # noqa: E402


@pytest.fixture
def client(daemon):
    client = daemon.client()
    yield client
    client.close()


def test_run(client):
    assert client.containers.run(IMAGE, ["echo", "hello"], remove=True) == b"hello\n"
    with pytest.raises(docker.errors.ContainerError) as failed:
        client.containers.run(IMAGE, ["sh", "-c", "echo why >&2; exit 3"], remove=True)
    assert failed.value.exit_status == 3 and failed.value.stderr == b"why\n"
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get("no-such-image")


def test_container_objects(client):
    box = client.containers.run(IMAGE, ["sleep", "100"], detach=True, name="box", environment={"A": "1"}, labels={"l": "v"}, ports={"80/tcp": None})
    assert box.status in ("created", "running")
    box.reload()
    assert box.status == "running" and box.labels == {"l": "v"} and box.ports["80/tcp"]
    code, output = box.exec_run(["sh", "-c", "echo $A; exit 2"])
    assert (code, output) == (2, b"1\n")
    code, (out, err) = box.exec_run(["sh", "-c", "echo o; echo e >&2"], demux=True)
    assert (out, err) == (b"o\n", b"e\n")
    assert box.top()["Processes"]
    assert box.stats(stream=False)["memory_stats"]["usage"] > 0
    assert [c.name for c in client.containers.list(filters={"label": "l=v"})] == ["box"]
    box.pause()
    box.unpause()
    box.restart(timeout=0)
    box.rename("renamed")
    box.stop(timeout=0)
    assert box.wait()["StatusCode"] == 137
    box.remove()


def test_logs_and_attach(client):
    box = client.containers.run(IMAGE, ["sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done"], detach=True)
    assert b"".join(box.logs(stream=True, follow=True)) == b"1\n2\n3\n"
    assert box.logs(tail=1) == b"3\n"
    echo = client.containers.create(IMAGE, ["cat"], stdin_open=True)
    sock = echo.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    echo.start()
    sock._sock.sendall(b"hello\n")
    data = b""
    while len(data) < 14:
        data += sock._sock.recv(100)
    assert data == b"\x01\0\0\0\0\0\0\x06hello\n"
    sock._sock.close()
    echo.remove(force=True)


def test_archives(client):
    import io
    import tarfile
    box = client.containers.create(IMAGE, ["true"])
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        info = tarfile.TarInfo("hello")
        info.size = 5
        tar.addfile(info, io.BytesIO(b"there"))
    assert box.put_archive("/tmp", data.getvalue())
    stream, stat = box.get_archive("/tmp/hello")
    assert stat["name"] == "hello" and stat["size"] == 5
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
        assert tar.extractfile("hello").read() == b"there"
    assert {"Path": "/tmp/hello", "Kind": 1} in box.diff()
    box.remove()


def test_networks_and_volumes(client):
    network = client.networks.create("pynet", driver="bridge", labels={"x": "y"}, ipam=docker.types.IPAMConfig(
        pool_configs=[docker.types.IPAMPool(subnet="10.55.0.0/24", gateway="10.55.0.1")]))
    volume = client.volumes.create("pyvol")
    box = client.containers.run(IMAGE, ["sleep", "100"], detach=True, network="pynet", volumes={"pyvol": {"bind": "/v", "mode": "rw"}})
    network.reload()
    assert [c.id for c in network.containers] == [box.id]
    network.disconnect(box)
    network.connect(box, ipv4_address="10.55.0.9")
    box.reload()
    assert box.attrs["NetworkSettings"]["Networks"]["pynet"]["IPAddress"] == "10.55.0.9"
    with pytest.raises(docker.errors.APIError):
        volume.remove()
    box.remove(force=True)
    volume.remove()
    network.remove()


def test_events_and_system(client):
    import time
    since = time.time()
    client.containers.run(IMAGE, ["true"], remove=True)
    events = list(client.events(since=int(since), until=int(time.time()) + 1, decode=True, filters={"type": "container"}))
    assert {"create", "start", "die", "destroy"} <= {e["Action"] for e in events}
    assert client.ping() and client.version()["ApiVersion"] == "1.50" and client.info()["NCPU"] >= 1
    assert client.df()["Images"]


def test_images(client):
    import io
    box = client.containers.create(IMAGE, ["true"], name="maker")
    image = box.commit(repository="pyimage", tag="1", author="someone", changes='ENV A=b')
    assert image.tags == ["pyimage:1"] and "A=b" in image.attrs["Config"]["Env"] and image.attrs["Author"] == "someone"
    assert image.tag("pyimage", tag="2")
    saved = b"".join(image.save(named=True))
    box.remove()
    for tag in ("pyimage:1", "pyimage:2"):
        client.images.remove(tag)
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get("pyimage:1")
    assert client.images.load(io.BytesIO(saved))[0].history()[0]["Size"] >= 0
    for tag in [t for i in client.images.list(name="pyimage") for t in i.tags]:
        client.images.remove(tag)


def test_high_level_options(client, tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "f").write_text("bound\n")
    types = docker.types
    out = client.containers.run(
        IMAGE, ["sh", "-c", "cat /m/f; ulimit -n; hostname; id -u; pwd; cat /etc/hosts; df -k /t | tail -1"], remove=True, hostname="host1", user="1000",
        working_dir="/tmp", extra_hosts={"other": "10.1.2.3"}, ulimits=[types.Ulimit(name="nofile", soft=64, hard=64)], tmpfs={"/t": "size=1m"},
        mounts=[types.Mount("/m", str(tmp_path), type="bind", read_only=True)], mem_limit="64m", pids_limit=50, read_only=True, cap_drop=["ALL"],
        security_opt=["no-new-privileges"], log_config=types.LogConfig(type="json-file", config={"max-size": "1m"})).decode()
    assert out.split()[:5] == ["bound", "64", "host1", "1000", "/tmp"] and "10.1.2.3" in out and " 1024 " in out


def test_health_wait_update_and_prune(client):
    ms = 1_000_000
    box = client.containers.run(IMAGE, ["sleep", "100"], detach=True, name="well", mem_limit="64m",
                                healthcheck={"test": ["CMD", "true"], "interval": 100 * ms, "retries": 3})
    for _ in range(100):
        box.reload()
        if box.attrs["State"]["Health"]["Status"] == "healthy":
            break
        import time
        time.sleep(0.05)
    assert box.attrs["State"]["Health"]["Status"] == "healthy"
    box.update(mem_limit="128m", memswap_limit="256m", restart_policy={"Name": "no"})
    box.reload()
    assert box.attrs["HostConfig"]["Memory"] == 128 << 20
    box.kill(signal="KILL")
    assert box.wait()["StatusCode"] == 137
    assert box.id in client.containers.prune()["ContainersDeleted"]
    assert client.networks.prune() is not None and client.volumes.prune() is not None
