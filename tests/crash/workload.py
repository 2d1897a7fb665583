"""Clients that do this and that to objects of their own, and remember what must be so afterwards.

Each client has a thread and names that nobody else touches, so that it knows after each answer what there is; where the daemon died over a request, it
knows the few things that may be. What a client does is decided by the seed, the round and its number alone."""

import http.client
import io
import json
import random
import struct
import tarfile
import threading

from building import archive
from harness import IMAGE

GONE = None
ENDLESS = "i=0; while true; do echo $i; i=$((i+1)); sleep 0.05; done"
CONTAINERS = 3  # of each client


def untar(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {entry.name: archive.extractfile(entry).read() for entry in archive if entry.isfile()}


def demultiplexed(stream):
    """The text of a log as the API sends it."""
    out, at = [], 0
    while at + 8 <= len(stream):
        (size,) = struct.unpack_from(">I", stream, at + 4)
        out.append(stream[at + 8:at + 8 + size])
        at += 8 + size
    return b"".join(out).decode()


class Container:
    """One container as its client knows it. states: what inspect may say, GONE where there may be none. codes: how it may have exited. vague:
    nobody knows whether it is the former or a new one of that name."""

    def __init__(self, name):
        self.name = name
        self.states = {GONE}
        self.forget()

    def forget(self):
        self.lines, self.code, self.codes, self.files, self.auto, self.vague = None, 0, set(), {}, False, False

    def may_be_up(self):
        return "running" in self.states or "paused" in self.states

    def daemon_died(self):
        """Containers that remove themselves and do not run go at the next start, those never started too."""
        if self.auto and self.states & {"created", "exited"}:
            self.states.add(GONE)

    def may_have_died(self, code):
        """Something killed it, or may have."""
        if self.may_be_up():
            self.states |= {"exited"} | ({GONE} if self.auto else set())
            self.codes.add(code)


class Client:
    """state survives the rounds: pass the former client of that number."""

    def __init__(self, daemon, number, seed, former, over, registry, trouble):
        self.daemon, self.number, self.over, self.registry, self.trouble = daemon, number, over, registry, trouble
        self.chance = random.Random(f"{seed}/{number}")
        self.failures, self.done = [], []
        self.thread = threading.Thread(target=self.work)
        if former:
            self.containers, self.others = former.containers, former.others
        else:
            self.containers = [Container(f"c{number}-{i}") for i in range(CONTAINERS)]
            self.others = {}  # (kind, name): whether it is there; a set of both where nobody knows

    # ---- asking ----

    def fail(self, text):
        """Where a shim may have been killed a moment ago, its container is not what it was."""
        if not self.trouble.is_set():
            self.failures.append(text)

    def ask(self, method, path, body=None, headers=None):
        """Status and body; (None, b"") where the daemon died over it, was dead, or failed as it may in this trouble: its end, the death of a shim."""
        try:
            response = self.daemon.api(method, path, body, headers=headers, timeout=60)
        except (OSError, http.client.HTTPException):
            self.done.append(f"{method} {path}: died")
            return None, b""
        self.done.append(f"{method} {path}: {response.status}")
        if response.status >= 500:
            if self.trouble.is_set():
                return None, b""
            self.fail(f"{method} {path}: {response.status} {response.body[:300]}")
        return response.status, response.body

    def ask_for(self, container, success, method, path, body=None, may=None):
        """A step of a container: `success` is what it is afterwards; `may` what a death in the middle can make of it besides."""
        before = set(container.states)
        status, answer = self.ask(method, path, body)
        if status is None:
            container.states = before | success | (may or set())
        elif status < 300:
            container.states = set(success)
        return status, answer

    # ---- containers ----

    def create(self, c):
        chance = self.chance
        fresh = Container(c.name)
        fresh.code = chance.choice([0, 1, 3, 42, 255])
        fresh.auto = chance.random() < 0.15
        if chance.random() < 0.5:
            fresh.lines = chance.choice([0, 1, 200, 3000])
            wait = chance.choice(["", "sleep 0.1; ", "sleep 0.4; "])
            command = f"i=0; while [ $i -lt {fresh.lines} ]; do echo $i; i=$((i+1)); done; {wait}exit {fresh.code}"
            fresh.codes = {fresh.code}
        else:
            command = ENDLESS
        host = {"AutoRemove": fresh.auto, "NetworkMode": chance.choice(["bridge", "bridge", "none"])}
        body = {"Image": IMAGE, "Cmd": ["sh", "-c", command], "HostConfig": host}
        if host["NetworkMode"] == "bridge" and chance.random() < 0.3:
            body["ExposedPorts"] = {"80/tcp": {}}
            host["PortBindings"] = {"80/tcp": [{"HostPort": str(8000 + 10 * self.number + self.containers.index(c))}]}
        if chance.random() < 0.3:
            host["Binds"] = [f"v{self.number}:/v"]
        if chance.random() < 0.2:
            body["Volumes"] = {"/anonymous": {}}
        status, _ = self.ask("POST", f"/containers/create?name={c.name}", body)
        if status == 409 and c.states == {GONE}:
            self.fail(f"{c.name} is said to exist")
        if status == 201 and GONE not in c.states:
            self.fail(f"{c.name} was created although it was {c.states}")
        if status == 201 or (status is None and c.states == {GONE}):
            vars(c).update(vars(fresh))
            c.states = {"created"} if status else {GONE, "created"}
            if "Binds" in host:
                self.others[("volume", f"v{self.number}")] = {True} if status else {True, False}
        elif status is None and GONE in c.states:
            c.states, c.vague = c.states | {"created"}, True

    def start(self, c):
        ends = {"running"} | ({"exited"} if c.lines is not None else set()) | ({GONE} if c.lines is not None and c.auto else set())
        if "running" in c.states or "paused" in c.states:
            ends |= c.states - {"created"}
        status, body = self.ask_for(c, ends, "POST", f"/containers/{c.name}/start", may={"exited"} | ({GONE} if c.auto else set()))
        if status is None:
            c.codes |= {127, 128, 137}  # the start was cut short
        elif status >= 400:
            c.codes.add(128)  # refused, by a network that is gone say
            c.states |= {GONE} if c.auto else set()
        elif status == 404 and b"No such container" in body and GONE not in c.states:
            self.fail(f"{c.name} is lost at start: {body}")

    def end(self, c, path):
        """stop and kill."""
        c.codes.add(137)
        up, maybe = c.may_be_up(), set(c.states)
        ended = {"exited"} | ({GONE} if c.auto else set())
        if not up or "created" in c.states or GONE in c.states:
            ended |= maybe
        self.ask_for(c, ended, "POST", path, may=self.thawed(c))

    @staticmethod
    def thawed(c):
        """One that is paused is let go on before it is ended, and a death can come in between."""
        return {"running"} if "paused" in c.states else set()

    def stop(self, c):
        self.end(c, f"/containers/{c.name}/stop?t=0")

    def kill(self, c):
        self.end(c, f"/containers/{c.name}/kill")

    def pause(self, c):
        self.ask_for(c, {"paused"}, "POST", f"/containers/{c.name}/pause")

    def unpause(self, c):
        ends = {"running"} | ({"exited"} if c.lines is not None else set()) | ({GONE} if c.auto and c.lines is not None else set())
        self.ask_for(c, ends, "POST", f"/containers/{c.name}/unpause")

    def remove(self, c, force=0):
        status, _ = self.ask_for(c, {GONE}, "DELETE", f"/containers/{c.name}?v=1&force={force}", may={"exited"} | self.thawed(c) if force else set())
        if force:
            c.codes.add(137)
        if status and status < 300:
            c.forget()
        elif status == 404:
            if GONE not in c.states:
                self.fail(f"{c.name} is lost at removal")
            c.states = {GONE}
            c.forget()

    def force(self, c):
        self.remove(c, 1)

    def execute(self, c):
        status, body = self.ask("POST", f"/containers/{c.name}/exec", {"Cmd": ["sh", "-c", "exit 7"], "AttachStdout": True})
        if status == 201:
            made = json.loads(body)["Id"]
            if self.ask("POST", f"/exec/{made}/start", {"Detach": False, "Tty": False})[0] == 200:
                status, body = self.ask("GET", f"/exec/{made}/json")
                # one that ends may take it along before it has begun, or not be settled yet
                if status == 200 and c.lines is None and json.loads(body)["ExitCode"] not in (7, 137):
                    self.fail(f"an exec's status is lost: {body}")

    def wait(self, c):
        if c.lines is None or "created" in c.states or "paused" in c.states or c.states == {GONE}:
            return
        status, body = self.ask("POST", f"/containers/{c.name}/wait")
        if status == 200 and not c.vague and json.loads(body)["StatusCode"] not in c.codes:
            self.fail(f"{c.name} exited with {body}, not one of {c.codes}")

    def copy(self, c):
        name, data = f"f{self.chance.randrange(3)}", self.chance.randbytes(self.chance.choice([0, 10, 70000]))
        status, _ = self.ask("PUT", f"/containers/{c.name}/archive?path=/", archive({name: data}, "w"), {"Content-Type": "application/x-tar"})
        if status == 200:
            c.files[name] = data
        elif status is None:
            c.files.pop(name, None)
        elif status == 404 and GONE not in c.states:
            self.fail(f"{c.name} is lost at cp")

    def commit(self, c):
        name = f"crash/committed{self.number}:1"
        status, _ = self.ask("POST", f"/commit?container={c.name}&repo={name[:-2]}&tag=1", {})
        self.learn("image", name, status, True)

    # ---- what is no container ----

    def learn(self, kind, name, status, there):
        """What an answer to a creation or removal tells."""
        key = kind, name
        if status is None:
            self.others[key] = self.others.get(key, {False}) | {there}
        elif status < 300:
            self.others[key] = {there}
        elif status == 404 and not there:
            if self.others.get(key, {False}) == {True}:
                self.fail(f"{kind} {name} is lost")
            self.others[key] = {False}

    def volume(self, _):
        name = f"v{self.number}"
        self.learn("volume", name, self.ask("POST", "/volumes/create", {"Name": name})[0], True)

    def no_volume(self, _):
        name = f"v{self.number}"
        self.learn("volume", name, self.ask("DELETE", f"/volumes/{name}")[0], False)

    def network(self, c):
        name = f"n{self.number}"
        self.learn("network", name, self.ask("POST", "/networks/create", {"Name": name})[0], True)
        if self.chance.random() < 0.7:
            self.ask("POST", f"/networks/{name}/connect", {"Container": c.name})
            if self.chance.random() < 0.5:
                self.ask("POST", f"/networks/{name}/disconnect", {"Container": c.name, "Force": True})

    def no_network(self, _):
        name = f"n{self.number}"
        self.learn("network", name, self.ask("DELETE", f"/networks/{name}")[0], False)

    def build(self, _):
        name = f"crash/built{self.number}:1"
        text = f"FROM {IMAGE}\nCOPY f /f\nRUN cat /f > /g && echo {self.chance.randrange(4)} >> /g\nLABEL a=b\n"
        data = archive({"Dockerfile": text.encode(), "f": b"built\n" * self.chance.choice([1, 1000])}, "w")
        status, body = self.ask("POST", f"/build?t={name}&rm=1&forcerm=1", data, {"Content-Type": "application/x-tar"})
        if status == 200 and b'"errorDetail"' in body and not self.trouble.is_set():
            self.fail(f"build: {body[-400:]}")
        self.learn("image", name, status if status is None or b"Successfully tagged" in body else None, True)

    def pull(self, _):
        name = self.registry
        status, body = self.ask("POST", f"/images/create?fromImage={name[:-2]}&tag=1")
        whole = b"Status: " in body and b'"errorDetail"' not in body
        if status == 200 and not whole and b"was removed while it was pulled" not in body and not self.trouble.is_set():
            self.fail(f"pull: {body[-400:]}")

    def no_image(self, _):
        name = f"crash/{self.chance.choice(['built', 'committed'])}{self.number}:1"
        self.learn("image", name, self.ask("DELETE", f"/images/{name}?force=1")[0], False)

    def no_pulled(self, _):
        self.ask("DELETE", f"/images/{self.registry}?force=1")

    STEPS = ([create] * 4 + [start] * 5 + [stop, kill, pause, unpause, unpause, remove, force] + [execute] * 2 + [wait] * 2 + [copy] * 2 +
             [commit, volume, no_volume, network, no_network, build, build, pull, no_image, no_pulled])

    def work(self):
        try:
            while not self.over.is_set() and self.daemon.process is not None and self.daemon.process.poll() is None:
                step = self.chance.choice(self.STEPS)
                step(self, self.chance.choice(self.containers))
        except Exception as error:  # noqa: BLE001 (a client's own fault must not pass for a quiet one)
            self.failures.append(f"{type(error).__name__}: {error}, after {self.done[-3:]}")
