"""kill -9 of gantryd between any two things that the outside can see.

tests/data/crash/crashpoint.c is preloaded into the daemon and lets it die at the n-th call that changes a file or talks to another process. `sweep`
does one step of a container's life again and again, each time with the death a little later, starts the daemon again, and looks at what is there."""

import contextlib
import http.client
import mmap
import os
import signal
import struct
import subprocess
import time

from harness import IMAGE, REPO, wait_until

MANY = 1 << 40
STEPS = {}


def step(function):
    """Registers a generator: what comes before its first yield is prepared in peace; up to the second the daemon dies somewhere; after that it runs again,
    and the step checks what only it can know."""
    STEPS[function.__name__] = function
    return function


def build_library(directory, name="crashpoint"):
    """One of the libraries to preload into a daemon."""
    path = os.path.join(directory, name + ".so")
    subprocess.run(["cc", "-D_GNU_SOURCE", "-O1", "-Wall", "-shared", "-fPIC", "-o", path,
                    os.path.join(REPO, "tests", "data", "crash", name + ".c")], check=True)
    return path


class CrashingDaemon:
    """A daemon with a witness: a container that must not notice anything."""

    def __init__(self, daemon, library):
        self.daemon = daemon
        path = os.path.join(daemon.dir, "crash-count")
        with open(path, "wb") as f:
            f.truncate(8)
        with open(path, "r+b") as f:
            self.count = mmap.mmap(f.fileno(), 8)
        daemon.env.update(LD_PRELOAD=library, GT_CRASH_FILE=path)
        daemon.env["ASAN_OPTIONS"] += ":verify_asan_link_order=0"
        daemon.start()
        daemon.docker("run", "-d", "--name", "witness", IMAGE, "sh", "-c", "i=0; while true; do echo $i; i=$((i+1)); sleep 0.02; done")
        self.witness_id = daemon.inspect("witness")["Id"]
        self.witness = daemon.inspect("witness")["State"]
        self.images = {image["Id"] for image in daemon.json("GET", "/images/json")}
        self.links = set(daemon.links())
        self.clean = None

    def arm(self, n):
        struct.pack_into("q", self.count, 0, n)

    def disarm(self):
        """What was left of the count; 0: the daemon has died."""
        (left,) = struct.unpack_from("q", self.count, 0)
        struct.pack_into("q", self.count, 0, 0)
        return left

    def ask(self, method, path, body=None, **kw):
        """The status of an answer, or None where the daemon died over it. An error is no outcome of these steps."""
        try:
            response = self.daemon.api(method, path, body, **kw)
        except (OSError, http.client.HTTPException):
            return None
        assert response.status < 400, f"{method} {path}: {response.status} {response.body}"
        return response.status

    def must(self, method, path, body=None, **kw):
        status = self.ask(method, path, body, **kw)
        assert status, f"{method} {path}: the daemon died"
        return status

    def ask_json(self, method, path, body=None):
        """The answer itself, or None where the daemon died."""
        try:
            return self.daemon.json(method, path, body)
        except (OSError, http.client.HTTPException):
            return None

    def alive(self):
        return self.daemon.process.poll() is None

    def let_run(self, seconds):
        """Waits, but not for the dead."""
        end = time.monotonic() + seconds
        while self.alive() and time.monotonic() < end:
            time.sleep(0.005)

    # ---- objects of the steps ----

    def create(self, name="subject", command=("sleep", "1000"), **host):
        self.must("POST", f"/containers/create?name={name}", {"Image": IMAGE, "Cmd": list(command), "HostConfig": host})

    def run(self, name="subject", command=("sleep", "1000"), **host):
        self.create(name, command, **host)
        self.must("POST", f"/containers/{name}/start")

    def names(self):
        return {name[1:] for c in self.daemon.json("GET", "/containers/json?all=1") for name in c["Names"]} - {"witness"}

    def status(self, name="subject"):
        return self.daemon.state(name) if name in self.names() else None

    def kill_process(self, name):
        os.kill(self.pids[name], signal.SIGKILL)

    def has_image(self, name):
        return self.daemon.api("GET", f"/images/{name}/json").status == 200

    def cgroup_file(self, name, *candidates):
        """The first of the files that is there, in whichever hierarchy."""
        cid = self.daemon.inspect(name)["Id"]
        for path in self.daemon.cgroups():
            for candidate in candidates:
                if path.endswith(cid) and os.path.exists(os.path.join(path, candidate)):
                    with open(os.path.join(path, candidate)) as f:
                        return f.read().strip()
        raise AssertionError(f"no {candidates} of {name}")

    def is_frozen(self, name):
        return self.cgroup_file(name, "freezer.state", "cgroup.freeze") in ("FROZEN", "FREEZING", "1")

    def await_shims(self, count):
        """Until only so many containers have a shim."""
        def shims():
            found = 0
            for pid in self.daemon.pids():
                with contextlib.suppress(OSError), open(f"/proc/{pid}/comm") as f:
                    found += f.read().startswith("gantry-shim")
            return found
        wait_until(lambda: shims() == count, what=f"{count} shims")

    # ---- what there is ----

    def look(self):
        """Every name below the daemon's directories (not within the witness's), its cgroups and processes."""
        d = self.daemon
        found = set()
        for base in (d.root, d.run_dir):
            for path, directories, files in os.walk(base):
                found.update(os.path.join(path, name) for name in directories + files)
        found.update(d.cgroups())
        found.update(f"link {name}" for name in d.links())
        with open("/proc/self/mountinfo") as f:
            found.update(f"mount {line.split()[4]}" for line in f if d.dir in line or d.run_dir in line)
        for pid in d.pids() - {d.process.pid}:
            with contextlib.suppress(OSError), open(f"/proc/{pid}/cgroup") as cgroup, open(f"/proc/{pid}/cmdline") as command:
                if self.witness_id not in cgroup.read():
                    found.add(f"process {pid} {command.read()}")
        found.update(f"rule {line.strip()}" for line in d.nft().splitlines() if "counter" not in line)
        return {name for name in found if f"layers/{self.witness_id}/" not in name}

    def check_whole(self):
        """Each container there is can be inspected, started and stopped, and nothing remains of it."""
        d = self.daemon
        state = d.inspect("witness")["State"]
        assert (state["Status"], state["Pid"], state["StartedAt"]) == ("running", self.witness["Pid"], self.witness["StartedAt"])
        for name in self.names():
            status = d.state(name)
            if status in ("running", "paused"):
                assert self.is_frozen(name) == (status == "paused"), f"{name} is {status}"
            assert status in ("created", "running", "paused", "exited"), status
            if status == "paused":
                self.must("POST", f"/containers/{name}/unpause")
            elif status != "running":
                self.must("POST", f"/containers/{name}/start")
            assert d.state(name) in ("running", "exited")
            self.must("POST", f"/containers/{name}/stop?t=0")

    def clear(self):
        d = self.daemon
        for name in self.names():
            self.must("DELETE", f"/containers/{name}?force=1&v=1")
        for volume in d.json("GET", "/volumes")["Volumes"] or []:
            self.must("DELETE", "/volumes/" + volume["Name"])
        for network in d.json("GET", "/networks"):
            if network["Name"] not in ("bridge", "host", "none"):
                self.must("DELETE", "/networks/" + network["Id"])
        for image in d.json("GET", "/images/json"):
            if image["Id"] not in self.images:
                self.must("DELETE", f"/images/{image['Id']}?force=1")
        left = [image for image in d.json("GET", "/images/json?all=1") if image["Id"] not in self.images]
        assert not left, f"images that cannot be removed: {left}"

    def check_clean(self):
        """Nothing is there that was not there before the step, and nothing is missing."""
        def difference():
            seen = self.look()
            return [f"left: {name}" for name in seen - self.clean] + [f"lost: {name}" for name in self.clean - seen]
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not difference(), 3)
        found = difference()
        assert not found, "\n".join(found)

    def check_witness_log(self):
        numbers = [int(line) for line in self.daemon.docker("logs", "witness").out.split()]
        assert numbers == list(range(len(numbers)))

    # ---- one step ----

    def once(self, function, point):
        """Returns whether the step came to its end before the daemon died."""
        d = self.daemon
        run = function(self)
        next(run)
        self.pids = {name: self.daemon.inspect(name)["State"]["Pid"] for name in self.names()} if self.daemon.process else {}
        self.arm(point)
        next(run)
        left = self.disarm()
        if left > 0:
            d.kill9()
        else:
            d.process.wait(10)
            d.process = None
        d.start()
        with contextlib.suppress(StopIteration):
            next(run)
        self.check_whole()
        self.clear()
        return point - left if left > 0 else None

    def sweep(self, name, rounds):
        """rounds: how many deaths at most, evenly spread over the step."""
        function = STEPS[name]
        total = self.once(function, MANY)
        # What still goes, in its own time, of the containers of this first round is not missed later.
        self.await_shims(1)
        self.clean = {name for name in self.look() if "/trash/" not in name and not (name.startswith("link gtv") and name[5:] not in self.links)}
        points = range(1, total + 1)
        if total > rounds:
            points = sorted({1 + i * total // rounds for i in range(rounds)})
        for point in points:
            try:
                self.once(function, point)
                self.check_clean()
            except BaseException as error:
                raise AssertionError(f"{name}, death at call {point} of {total}:\n{self.daemon.log()[-3000:]}") from error
        self.check_witness_log()
