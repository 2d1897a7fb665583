"""kill -9 of the daemon in the middle of each life-cycle step: nothing lost, nothing leaked. How, tells crash.py."""

import http.client
import json
import os
import random
import signal
import threading
import time

import pytest

from building import archive
from crash import STEPS, CrashingDaemon, build_library, step
from harness import IMAGE, Daemon, run, wait_until

# How many deaths each step is given; all there are with GT_CRASH_ROUNDS=all.
ROUNDS = 10**6 if os.environ.get("GT_CRASH_ROUNDS") == "all" else int(os.environ.get("GT_CRASH_ROUNDS", "8"))


# ---- containers ----

@step
def create(c):
    yield
    body = {"Image": IMAGE, "Cmd": ["true"], "Volumes": {"/anonymous": {}}, "HostConfig": {"Binds": ["named:/v"]}}
    done = c.ask("POST", "/containers/create?name=subject", body)
    yield
    assert c.names() == {"subject"} if done else c.names() <= {"subject"}


@step
def start(c):
    c.create(Binds=["filled:/etc"], RestartPolicy={"Name": "no"})
    yield
    done = c.ask("POST", "/containers/subject/start")
    yield
    assert c.status() == "running" if done else c.status() in ("created", "running", "exited")
    c.must("POST", "/containers/subject/start")
    # The image's /etc has come into the volume, all of it.
    show = ["sh", "-c", "cd /etc && find . | sort | grep -vE 'host|resolv|mtab'; cat passwd group | wc -l"]
    assert c.daemon.docker("exec", "subject", *show).out == c.daemon.docker("exec", "witness", *show).out


@step
def start_of_a_removing_one(c):
    c.create(AutoRemove=True, command=("true",))
    yield
    c.ask("POST", "/containers/subject/start")
    c.ask("POST", "/containers/subject/wait?condition=removed") if c.alive() else None
    yield
    wait_until(lambda: c.status() in (None, "running"), what="removal of a container with AutoRemove")


@step
def stop(c):
    c.run(command=("sh", "-c", "trap 'exit 3' TERM; while true; do sleep 0.01; done"))
    yield
    done = c.ask("POST", "/containers/subject/stop?t=5")
    yield
    assert c.status() == "exited" if done else c.status() in ("running", "exited")


@step
def kill(c):
    c.run()
    yield
    done = c.ask("POST", "/containers/subject/kill")
    yield
    if done:
        assert c.daemon.inspect("subject")["State"]["ExitCode"] == 137
    assert c.status() == "exited" if done else c.status() in ("running", "exited")


@step
def restart(c):
    c.run()
    yield
    done = c.ask("POST", "/containers/subject/restart?t=0")
    yield
    assert c.status() == "running" if done else c.status() in ("running", "exited")


@step
def pause(c):
    c.run()
    yield
    done = c.ask("POST", "/containers/subject/pause")
    yield
    assert c.status() == "paused" if done else c.status() in ("running", "paused")


@step
def unpause(c):
    c.run()
    c.must("POST", "/containers/subject/pause")
    yield
    done = c.ask("POST", "/containers/subject/unpause")
    yield
    assert c.status() == "running" if done else c.status() in ("running", "paused")


@step
def kill_of_a_paused_one(c):
    c.run(command=("sh", "-c", "trap 'exit 5' USR1; while true; do sleep 0.01; done"))
    c.must("POST", "/containers/subject/pause")
    yield
    done = c.ask("POST", "/containers/subject/kill?signal=KILL")
    yield
    assert c.status() == "exited" if done else c.status() in ("running", "paused", "exited")


@step
def execute(c):
    c.run()
    yield
    made = c.ask_json("POST", "/containers/subject/exec", {"Cmd": ["touch", "/made"]})
    done = made and c.ask("POST", f"/exec/{made['Id']}/start", {"Detach": True})
    yield
    assert c.status() == "running"
    assert c.daemon.docker("exec", "subject", "echo", "fine").out == "fine\n"
    if done:
        wait_until(lambda: c.daemon.docker("exec", "subject", "ls", "/made", check=False).code == 0, what="the exec's file")


@step
def rename(c):
    c.create(command=("true",))
    yield
    done = c.ask("POST", "/containers/subject/rename?name=other")
    yield
    assert c.names() == {"other"} if done else c.names() in ({"subject"}, {"other"})


@step
def update(c):
    c.run(Memory=64 << 20, MemorySwap=-1)
    yield
    done = c.ask("POST", "/containers/subject/update", {"Memory": 128 << 20, "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}})
    yield
    host = c.daemon.inspect("subject")["HostConfig"]
    assert (host["Memory"], host["RestartPolicy"]["Name"]) in ([(128 << 20, "on-failure")] if done else [(64 << 20, "no"), (128 << 20, "on-failure")])
    assert c.cgroup_file("subject", "memory.limit_in_bytes", "memory.max") == str(host["Memory"])


@step
def remove(c):
    c.run(command=("sh", "-c", "echo x > /file"), Binds=["/anonymous"])
    c.must("POST", "/containers/subject/wait")
    yield
    done = c.ask("DELETE", "/containers/subject?v=1")
    yield
    assert c.status() is None if done else c.status() in (None, "exited")


@step
def remove_by_force(c):
    c.run(Mounts=[{"Type": "volume", "Target": "/anonymous"}, {"Type": "tmpfs", "Target": "/t"}])
    yield
    done = c.ask("DELETE", "/containers/subject?force=1&v=1")
    yield
    assert c.status() is None if done else c.status() in (None, "exited", "running")


@step
def an_exit(c):
    c.run(Binds=["named:/v"])
    yield
    c.kill_process("subject")
    c.ask("POST", "/containers/subject/wait")
    yield
    state = c.daemon.inspect("subject")["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 137)


@step
def an_exit_with_auto_remove(c):
    c.run(AutoRemove=True, Mounts=[{"Type": "volume", "Target": "/anonymous"}])
    yield
    c.kill_process("subject")
    c.ask("POST", "/containers/subject/wait?condition=removed")
    yield
    assert c.status() is None


@step
def an_exit_with_a_restart(c):
    c.run(RestartPolicy={"Name": "always"})
    before = c.daemon.inspect("subject")["State"]["Pid"]
    yield
    c.kill_process("subject")
    c.let_run(0.2)
    yield
    wait_until(lambda: c.status() == "running" and c.daemon.inspect("subject")["State"]["Pid"] != before, what="the restart")


@step
def copy_into(c):
    c.create(command=("cat", "/d/file"))
    yield
    done = c.ask("PUT", "/containers/subject/archive?path=/", archive({"d/file": b"x" * 100000}, "w"), headers={"Content-Type": "application/x-tar"})
    yield
    if done:
        c.must("POST", "/containers/subject/start")
        c.must("POST", "/containers/subject/wait")
        assert c.daemon.docker("logs", "subject").out == "x" * 100000


@step
def health(c):
    body = {"Image": IMAGE, "Cmd": ["sleep", "1000"], "Healthcheck": {"Test": ["CMD", "true"], "Interval": 20_000_000, "Timeout": 5_000_000_000}}
    c.must("POST", "/containers/create?name=subject", body)
    c.must("POST", "/containers/subject/start")
    yield
    c.let_run(0.1)
    yield
    wait_until(lambda: c.daemon.inspect("subject")["State"]["Health"]["Status"] == "healthy", what="health")


# ---- images, volumes, networks ----

@step
def commit(c):
    c.run(command=("sh", "-c", "echo new > /file; sleep 1000"))
    wait_until(lambda: c.daemon.docker("exec", "subject", "cat", "/file", check=False).out == "new\n", what="the file")
    yield
    done = c.ask("POST", "/commit?container=subject&repo=crash/image&tag=1", {})
    yield
    assert c.status() == "running"
    if done or c.has_image("crash/image:1"):
        assert c.daemon.docker("run", "--rm", "crash/image:1", "cat", "/file").out == "new\n"


def saved_image(c, cache={}):
    """An image with two layers of its own, as `docker save` writes it."""
    if not cache:
        c.run("donor", ("sh", "-c", "mkdir /d; seq 1 1000 > /d/file"))
        c.must("POST", "/containers/donor/wait")
        c.must("POST", "/commit?container=donor&repo=crash/saved&tag=1", {})
        cache["tar"] = c.daemon.api("GET", "/images/crash/saved:1/get").body
        c.must("DELETE", "/containers/donor")
        c.must("DELETE", "/images/crash/saved:1")
    return cache["tar"]


@step
def load(c):
    data = saved_image(c)
    yield
    done = c.ask("POST", "/images/load?quiet=1", data, headers={"Content-Type": "application/x-tar"})
    yield
    if done or c.has_image("crash/saved:1"):
        assert c.daemon.docker("run", "--rm", "crash/saved:1", "tail", "-n1", "/d/file").out == "1000\n"


@step
def import_image(c):
    yield
    done = c.ask("POST", "/images/create?fromSrc=-&repo=crash/imported&tag=1", archive({"file": b"y" * 5000}, "w"), headers={"Content-Type": "application/x-tar"})
    yield
    assert c.has_image("crash/imported:1") or not done


@step
def remove_image(c):
    c.must("POST", "/images/load?quiet=1", saved_image(c), headers={"Content-Type": "application/x-tar"})
    yield
    done = c.ask("DELETE", "/images/crash/saved:1")
    yield
    assert not (done and c.has_image("crash/saved:1"))
    if c.has_image("crash/saved:1"):
        assert c.daemon.docker("run", "--rm", "crash/saved:1", "tail", "-n1", "/d/file").out == "1000\n"


@step
def tag(c):
    yield
    done = c.ask("POST", f"/images/{IMAGE}/tag?repo=crash/tagged&tag=1")
    yield
    assert c.has_image("crash/tagged:1") or not done
    if c.has_image("crash/tagged:1"):
        c.must("DELETE", "/images/crash/tagged:1")


@step
def volume(c):
    yield
    done = c.ask("POST", "/volumes/create", {"Name": "kept", "Labels": {"a": "b"}})
    gone = done and c.ask("DELETE", "/volumes/kept")
    yield
    volumes = c.daemon.json("GET", "/volumes")["Volumes"] or []
    assert not (gone and volumes)
    assert all(v["Labels"] == {"a": "b"} for v in volumes)


def come_and_go(c, body):
    c.run()
    yield
    steps = [("POST", "/networks/create", {"Name": "crash", **body}), ("POST", "/networks/crash/connect", {"Container": "subject"}),
             ("POST", "/networks/crash/disconnect", {"Container": "subject"}), ("DELETE", "/networks/crash", None)]
    done = 0
    while done < len(steps) and c.ask(*steps[done]):
        done += 1
    yield
    there = [n for n in c.daemon.json("GET", "/networks") if n["Name"] == "crash"]
    connected = "crash" in c.daemon.inspect("subject")["NetworkSettings"]["Networks"]
    assert bool(there) in [(False, True), (True,), (True,), (True, False), (False,)][done]
    assert connected in [(False,), (False, True), (True, False), (False,), (False,)][done]
    assert c.status() == "running"
    inside = run("nsenter", "-t", str(c.daemon.inspect("subject")["State"]["Pid"]), "-n", "ip", "-br", "link").out
    assert connected == ("eth1" in inside)
    if connected:
        c.must("POST", "/networks/crash/disconnect", {"Container": "subject"})


@step
def network(c):
    yield from come_and_go(c, {})


@step
def macvlan_network(c):
    """On a cable that is the machine's own and stays."""
    name = c.daemon.name
    run("ip", "-n", name, "link", "add", "cable0", "type", "veth", "peer", "name", "cable1")
    run("ip", "-n", name, "link", "set", "cable0", "up")
    yield from come_and_go(c, {"Driver": "macvlan", "Options": {"parent": "cable0"}})


@step
def run_with_a_port(c):
    yield
    body = {"Image": IMAGE, "Cmd": ["sleep", "1000"], "ExposedPorts": {"80/tcp": {}}, "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "8080"}]}}}
    done = c.ask("POST", "/containers/create?name=subject", body) and c.ask("POST", "/containers/subject/start")
    yield
    assert c.status() == "running" if done else c.status() in (None, "created", "running", "exited")


# ---- the daemon ----

@step
def boot(c):
    """The daemon dies while it takes up what another left behind."""
    for name, host in {"runs": {}, "stopped": {}, "paused": {}, "ended": {}, "goes": {"AutoRemove": True}, "again": {"RestartPolicy": {"Name": "always"}}}.items():
        c.run(name, **host)
    c.create("fresh")
    c.must("POST", "/containers/stopped/kill")
    c.must("POST", "/containers/paused/pause")
    pids = {name: c.daemon.inspect(name)["State"]["Pid"] for name in ("runs", "paused", "ended", "goes", "again")}
    c.daemon.kill9()
    for name in ("ended", "goes", "again"):
        os.kill(pids[name], signal.SIGKILL)
    c.await_shims(3)
    yield
    c.daemon.start(wait=False)
    c.let_run(0.15)
    yield
    wait_until(lambda: c.status("again") == "running", what="the restart")
    wait_until(lambda: c.status("goes") is None, what="the removal")
    assert {name: c.status(name) for name in c.names()} == {"runs": "running", "stopped": "exited", "paused": "paused", "ended": "exited",
                                                            "again": "running", "fresh": "created"}
    assert c.daemon.inspect("ended")["State"]["ExitCode"] == 137
    for name in ("runs", "paused"):
        assert c.daemon.inspect(name)["State"]["Pid"] == pids[name]


@pytest.fixture(scope="module")
def library(workdir):
    return build_library(workdir)


@pytest.fixture(scope="module")
def crashing(workdir, library):
    """One daemon for all steps, and a new one after a failure."""
    held = {}

    def get():
        if "c" not in held:
            held["c"] = CrashingDaemon(Daemon(workdir), library)
        return held["c"]

    def drop():
        if "c" in held:
            held.pop("c").daemon.destroy()
    get.drop = drop
    yield get
    drop()


@pytest.mark.parametrize("name", STEPS)
def test_killed_in_the_middle(crashing, name):
    try:
        crashing().sweep(name, ROUNDS)
    except BaseException:
        crashing.drop()
        raise


def test_a_killed_shim_ends_its_container_and_is_told(fresh_daemon):
    d = fresh_daemon.start()
    cid = d.docker("run", "-d", "--name", "x1", "-p", "8080:80", IMAGE, "sleep", "100").out.strip()
    pid = d.inspect("x1")["State"]["Pid"]
    with open(f"/proc/{pid}/status") as f:
        shim = next(int(line.split()[1]) for line in f if line.startswith("PPid:"))
    os.kill(shim, signal.SIGKILL)
    wait_until(lambda: d.state("x1") == "exited", what="the exit")
    assert d.inspect("x1")["State"]["ExitCode"] != 0
    d.docker("start", "x1")
    assert d.state("x1") == "running"
    d.remove_everything()
    assert d.audit() == []


def test_a_shim_killed_during_the_start_leaves_nothing(fresh_daemon):
    d = fresh_daemon.start()
    d.docker("create", "--name", "x1", IMAGE, "sleep", "100")
    failed = 0
    for i in range(24):
        started, shims = [], []
        thread = threading.Thread(target=lambda: started.append(d.api("POST", "/containers/x1/start").status))
        before = d.pids()
        thread.start()
        while thread.is_alive() and not shims:
            shims = sorted(d.pids() - before)
        time.sleep(i % 8 * 0.003)
        if shims:
            os.kill(shims[0], signal.SIGKILL)
        thread.join()
        failed += started != [204]
        d.api("POST", "/containers/x1/kill")
        wait_until(lambda: d.state("x1") in ("created", "exited"), what="the end")
        wait_until(lambda: not [path for path in d.cgroups() if os.path.basename(path) != d.name], 3, "the end of the cgroup")
    assert failed > 0
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


# ---- many at once, and the daemon dies again and again ----

class Client(threading.Thread):
    """Does this and that to a few containers, as chance has it, whatever the daemon does."""

    def __init__(self, daemon, number, over):
        super().__init__()
        self.daemon, self.number, self.over, self.chance = daemon, number, over, random.Random(number)
        self.failures = []

    def ask(self, method, path, body=None):
        try:
            response = self.daemon.api(method, path, body, timeout=30)
        except (OSError, http.client.HTTPException):
            time.sleep(0.02)
            return None
        if response.status >= 500:
            self.failures.append((method, path, response.status, response.body))
        return response

    def one(self, name):
        chance = self.chance
        match chance.choice(["create", "create", "start", "start", "stop", "restart", "kill", "pause", "unpause", "rename", "remove", "force",
                             "exec", "update", "connect", "commit"]):
            case "create":
                self.ask("POST", f"/containers/create?name={name}", {
                    "Image": IMAGE, "Cmd": chance.choice([["true"], ["sleep", "1000"], ["sh", "-c", "sleep 0.1; exit 3"]]),
                    "Volumes": {"/v": {}} if chance.random() < 0.3 else {},
                    "HostConfig": {"AutoRemove": chance.random() < 0.3, "NetworkMode": chance.choice(["bridge", "none"]), "Memory": 64 << 20}})
            case "stop" | "restart" as verb:
                self.ask("POST", f"/containers/{name}/{verb}?t=0")
            case "rename":
                self.ask("POST", f"/containers/{name}/rename?name=storm{chance.randrange(6)}")
            case "remove":
                self.ask("DELETE", f"/containers/{name}?v=1")
            case "force":
                self.ask("DELETE", f"/containers/{name}?force=1&v=1")
            case "exec":
                made = self.ask("POST", f"/containers/{name}/exec", {"Cmd": ["true"]})
                if made and made.status == 201:
                    self.ask("POST", f"/exec/{json.loads(made.body)['Id']}/start", {"Detach": True})
            case "update":
                self.ask("POST", f"/containers/{name}/update", {"Memory": chance.choice([32, 64, 128]) << 20})
            case "connect":
                network = f"storm{self.number % 2}"
                self.ask("POST", "/networks/create", {"Name": network})
                self.ask("POST", f"/networks/{network}/connect", {"Container": name})
                self.ask("POST", f"/networks/{network}/disconnect", {"Container": name})
                self.ask("DELETE", f"/networks/{network}")
            case "commit":
                self.ask("POST", f"/commit?container={name}&repo=crash/storm&tag={self.number}", {})
            case verb:
                self.ask("POST", f"/containers/{name}/{verb}")

    def run(self):
        while not self.over.is_set():
            self.one(f"storm{self.chance.randrange(6)}")


def test_a_storm_of_clients_and_deaths(fresh_daemon):
    d = fresh_daemon.start()
    over = threading.Event()
    clients = [Client(d, number, over) for number in range(8)]
    chance = random.Random(0)
    for client in clients:
        client.start()
    try:
        for _ in range(10):
            time.sleep(0.1 + chance.random() * 0.5)
            d.restart(crash=True)
    finally:
        over.set()
        for client in clients:
            client.join()
    assert [failure for client in clients for failure in client.failures] == []
    for container in d.json("GET", "/containers/json?all=1"):
        assert container["State"] in ("created", "running", "paused", "exited"), container
    d.remove_everything()
    assert d.audit() == []
    for image in d.json("GET", "/images/json"):
        if image["RepoTags"] != [IMAGE + ":latest"]:
            d.api("DELETE", f"/images/{image['Id']}?force=1")
    (image,) = d.json("GET", "/images/json?all=1")
    assert d.json("GET", "/system/df")["LayersSize"] == image["Size"]
    assert not d.json("GET", "/volumes")["Volumes"]
    for line in d.log().splitlines():
        assert "could not be loaded" not in line and "in use by another" not in line, line
