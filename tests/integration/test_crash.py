"""kill -9 of the daemon in the middle of each life-cycle step: nothing lost, nothing leaked."""

import random
import subprocess
import threading
import time

import pytest

from harness import IMAGE, wait_until

# What a client does when the daemon dies under it. {n} is the round.
STEPS = {
    "create": [["create", "--name", "x1", "-v", "vol{n}:/v", IMAGE, "true"]],
    "run": [["run", "--name", "x1", "-p", "8080:80", IMAGE, "true"]],
    "run --rm": [["run", "--rm", "--name", "x1", "-v", "/anonymous", IMAGE, "true"]],
    "start": [["create", "--name", "x1", "-p", "8080:80", IMAGE, "sleep", "100"], ["start", "x1"]],
    "stop": [["run", "-d", "--name", "x1", IMAGE, "sleep", "100"], ["stop", "-t", "0", "x1"]],
    "restart": [["run", "-d", "--name", "x1", IMAGE, "sleep", "100"], ["restart", "-t", "0", "x1"]],
    "rm -f": [["run", "-d", "--name", "x1", "-v", "/anonymous", "-p", "8080:80", IMAGE, "sleep", "100"], ["rm", "-fv", "x1"]],
    "exec": [["run", "-d", "--name", "x1", IMAGE, "sleep", "100"], ["exec", "x1", "sh", "-c", "sleep 0.05"]],
    "commit": [["run", "--name", "x1", IMAGE, "sh", "-c", "echo > /f"], ["commit", "x1", "crash/img:{n}"]],
    "rename": [["create", "--name", "x1", IMAGE, "true"], ["rename", "x1", "y1"]],
    "network": [["network", "create", "net{n}"], ["run", "--rm", "--name", "x1", "--network", "net{n}", IMAGE, "true"], ["network", "rm", "net{n}"]],
    "cp": [["create", "--name", "x1", IMAGE, "true"], ["cp", "/usr/bin/dpkg", "x1:/file"]],
}


@pytest.mark.parametrize("step", STEPS)
def test_killed_in_the_middle(fresh_daemon, step):
    d = fresh_daemon.start()
    d.docker("run", "-d", "--name", "witness", "-p", "9999:80", IMAGE, "sh", "-c", "i=0; while true; do echo $i; i=$((i+1)); sleep 0.02; done")
    witness = d.inspect("witness")["State"]["Pid"]
    *before, last = STEPS[step]
    chance = random.Random(step)
    for n in range(6):
        for command in before:
            d.docker(*[word.format(n=n) for word in command])
        client = d.popen("docker", *[word.format(n=n) for word in last], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.015 + chance.random() * 0.08)
        d.kill9()
        client.kill()
        client.wait()
        d.start()
        # What there is, is whole: each container can be inspected, started or stopped, and removed.
        assert d.inspect("witness")["State"]["Pid"] == witness
        for container in d.json("GET", "/containers/json?all=1"):
            if container["Names"] == ["/witness"]:
                continue
            info = d.inspect(container["Id"])
            assert info["State"]["Status"] in ("created", "running", "exited", "dead"), info["State"]
            if info["State"]["Status"] == "created":
                d.api("POST", f"/containers/{container['Id']}/start")
            response = d.api("DELETE", f"/containers/{container['Id']}?force=1&v=1")
            assert response.status in (204, 404), response.body
        for volume in d.json("GET", "/volumes")["Volumes"] or []:
            assert d.api("DELETE", "/volumes/" + volume["Name"]).status == 204
        for network in d.json("GET", "/networks"):
            if network["Name"].startswith("net"):
                assert d.api("DELETE", "/networks/" + network["Id"]).status == 204
    d.docker("kill", "witness")
    wait_until(lambda: d.state("witness") == "exited", what="the witness's exit")
    numbers = [int(line) for line in d.docker("logs", "witness").out.split()]
    assert numbers == list(range(len(numbers)))
    d.remove_everything()
    assert d.audit() == []
    assert "8080" not in d.nft() and "9999" not in d.nft()
    # Only the embedded image and what the commits made is stored.
    for image in d.json("GET", "/images/json?all=1"):
        for tag in image["RepoTags"] or []:
            if tag.startswith("crash/"):
                d.docker("run", "--rm", tag, "ls", "/f")
                d.docker("rmi", tag)
    usage = d.json("GET", "/system/df")
    (image,) = d.json("GET", "/images/json?all=1")
    assert usage["LayersSize"] == image["Size"]


def test_a_killed_shim_ends_its_container_and_is_told(fresh_daemon):
    d = fresh_daemon.start()
    cid = d.docker("run", "-d", "--name", "x1", "-p", "8080:80", IMAGE, "sleep", "100").out.strip()
    pid = d.inspect("x1")["State"]["Pid"]
    with open(f"/proc/{pid}/status") as f:
        shim = next(int(line.split()[1]) for line in f if line.startswith("PPid:"))
    import os
    import signal
    os.kill(shim, signal.SIGKILL)
    wait_until(lambda: d.state("x1") == "exited", what="the exit")
    assert d.inspect("x1")["State"]["ExitCode"] != 0
    d.docker("start", "x1")
    assert d.state("x1") == "running"
    d.remove_everything()
    assert d.audit() == []


def test_many_clients_one_winner(fresh_daemon):
    d = fresh_daemon.start()
    d.docker("create", "--name", "x1", IMAGE, "sleep", "100")
    def together(method, path, count=16):
        statuses = []
        lock = threading.Lock()
        def one():
            status = d.api(method, path).status
            with lock:
                statuses.append(status)
        threads = [threading.Thread(target=one) for _ in range(count)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        return statuses
    starts = together("POST", "/containers/x1/start")
    assert starts.count(204) == 1 and set(starts) <= {204, 304}, starts
    removes = together("DELETE", "/containers/x1?force=1")
    assert removes.count(204) == 1 and set(removes) <= {204, 404, 409}, removes
    names = []
    def create():
        names.append(d.api("POST", "/containers/create?name=same", {"Image": IMAGE}).status)
    threads = [threading.Thread(target=create) for _ in range(16)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert names.count(201) == 1 and names.count(409) == 15, names
    d.remove_everything()
    assert d.audit() == []
