"""A gantryd under test and what the tests do with it."""

import contextlib
import fcntl
import http.client
import itertools
import json
import os
import pty
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import termios
import time

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("GT_BUILD", os.path.join(REPO, "build", "release"))
DOCKER = shutil.which("docker")
IMAGE = "gantry/busybox"
CGROUP = "/sys/fs/cgroup"

_serial = itertools.count(1)
# How often longer than here everything takes: emulated machines, sanitizers. For what is waited for, not for what is measured.
SLOW = int(os.environ.get("GT_SLOW", "1")) * (4 if "asan" in BUILD or "tsan" in BUILD else 1)


def sample(module, names):
    """Of the tests that a module took over from others, to run them another way, these alone; with GT_ALL in the environment all."""
    if not os.environ.get("GT_ALL"):
        for name in [name for name, value in module.items() if name.startswith("test_") and value.__module__ != module["__name__"] and name not in names]:
            del module[name]


def require_root():
    if os.geteuid() != 0:
        raise SystemExit("the integration tests need root: they make namespaces, mounts and cgroups of their own")


def sanitized():
    return "asan" in BUILD or "tsan" in BUILD


def wait_until(condition, timeout=10, what="a condition"):
    """Polls until condition() is truthy and returns its value."""
    end = time.monotonic() + timeout * SLOW
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not come true within {timeout} s")
        time.sleep(0.02)


class Result:
    """What a command did: exit status, standard output and error as text."""

    def __init__(self, args, code, out, err):
        self.args, self.code, self.out, self.err = args, code, out, err

    def __repr__(self):
        return f"{' '.join(self.args)}: exit {self.code}\n--- stdout\n{self.out[-4000:]}\n--- stderr\n{self.err[-4000:]}"


class UnixConnection(http.client.HTTPConnection):
    """http.client over the daemon's unix socket."""

    def __init__(self, path, timeout=60):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Daemon:
    def __init__(self, workdir, ini=None):
        self.name = f"gtt{os.getpid()}x{next(_serial)}"
        self.dir = tempfile.mkdtemp(prefix=self.name + "-", dir=workdir)
        self.run_dir = tempfile.mkdtemp(prefix=self.name + "-", dir="/run")
        self.root = os.path.join(self.dir, "root")
        self.socket = os.path.join(self.run_dir, "gantry.sock")
        self.ini_path = os.path.join(self.dir, "gantryd.ini")
        self.log_path = os.path.join(self.dir, "gantryd.log")
        self.cgroup_parent = "/" + self.name
        self.process = None
        self.env = {
            "PATH": os.path.join(BUILD, "bin") + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": self.dir,
            "DOCKER_HOST": "unix://" + self.socket,
            "GANTRY_HOST": "unix://" + self.socket,
            "DOCKER_CONFIG": os.path.join(self.dir, "docker-config"),
            "LANG": "C.UTF-8",
            "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:exitcode=99:log_path=" + os.path.join(self.dir, "sanitizer"),
            "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:log_path=" + os.path.join(self.dir, "sanitizer"),
            "TSAN_OPTIONS": "exitcode=99:log_path=" + os.path.join(self.dir, "sanitizer") + ":suppressions=" + os.path.join(self.dir, "tsan"),
        }
        with open(os.path.join(self.dir, "tsan"), "w") as f:
            f.write("called_from_lib:libjansson.so\n")  # its atomic reference counts are not instrumented
        # The daemon's "host": a namespace with loopback, and a way out to `outside`, a second one.
        run("ip", "netns", "add", self.name)
        run("ip", "-n", self.name, "link", "set", "lo", "up")
        self.write_ini(ini or {})

    # ---- configuration ----

    def write_ini(self, extra):
        sections = {
            "daemon": {
                "listen": "unix://" + self.socket,
                "socket_group": "",
                "root": self.root,
                "run": self.run_dir,
                "plugin_dir": os.path.join(BUILD, "plugins"),
                "libexec_dir": os.path.join(BUILD, "libexec"),
                "log_level": "debug",
            },
            "runtime": {"cgroup_parent": self.cgroup_parent},
            "storage": {"embedded_image": os.path.join(BUILD, "share", "busybox.tar")},
        }
        for section, keys in extra.items():
            sections.setdefault(section, {}).update(keys)
        with open(self.ini_path, "w") as f:
            for section, keys in sections.items():
                f.write(f"[{section}]\n")
                for key, value in keys.items():
                    f.write(f"{key} = {value}\n")

    # ---- life ----

    def in_netns(self, *args):
        return ["nsenter", "--net=/run/netns/" + self.name, *args]

    def start(self, wait=True):
        log = open(self.log_path, "ab")
        self.process = subprocess.Popen(
            self.in_netns(os.path.join(BUILD, "bin", "gantryd"), "--config", self.ini_path),
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env, start_new_session=True)
        log.close()
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self):
        def ready():
            if self.process.poll() is not None:
                raise AssertionError(f"gantryd ended with {self.process.returncode}:\n{self.log()[-4000:]}")
            try:
                return self.api("GET", "/_ping").status == 200
            except OSError:
                return False
        wait_until(ready, 20, "gantryd answering /_ping")

    def ensure_running(self):
        if self.process is None or self.process.poll() is not None:
            self.start()

    def stop(self, timeout=30):
        """SIGTERM, and an orderly end is demanded."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout * SLOW)
        self.process = None
        assert code == 0, f"gantryd ended with {code} at SIGTERM:\n{self.log()[-4000:]}"

    def kill9(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def restart(self, crash=False):
        self.kill9() if crash else self.stop()
        self.start()

    def destroy(self):
        """Whatever happened: nothing of this daemon stays on the machine."""
        with contextlib.suppress(Exception):
            if self.process is not None and self.process.poll() is None:
                self.remove_everything()
        self.kill9()
        for pid in self.pids():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        wait_gone = time.monotonic() + 5 * SLOW
        while self.pids() and time.monotonic() < wait_gone:
            time.sleep(0.02)
        for path in sorted(self.cgroups(), key=len, reverse=True):
            with contextlib.suppress(OSError):
                os.rmdir(path)
        subprocess.run(["ip", "netns", "del", self.name], stderr=subprocess.DEVNULL)
        shutil.rmtree(self.run_dir, ignore_errors=True)
        reports = self.sanitizer_reports()
        shutil.rmtree(self.dir, ignore_errors=True)
        assert not reports, reports

    def sanitizer_reports(self):
        texts = []
        for name in os.listdir(self.dir):
            if name.startswith("sanitizer."):
                with open(os.path.join(self.dir, name), errors="replace") as f:
                    texts.append(f.read())
        return "\n".join(texts)

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    # ---- what exists because of this daemon ----

    def pids(self):
        """Processes that run below our directories or in our cgroups."""
        found = set()
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    line = f.read().decode(errors="replace")
            except OSError:
                continue
            if self.run_dir in line or (self.dir in line and "gantry" in line):
                found.add(int(pid))
        for path in self.cgroups():
            with contextlib.suppress(OSError):
                with open(os.path.join(path, "cgroup.procs")) as f:
                    found.update(int(word) for word in f.read().split() if word != "0")
        found.discard(os.getpid())
        return found

    def plugin_hosts(self):
        """The processes of isolated plugins that this daemon has started, by its network namespace: {pid: plugin}."""
        found = {}
        wanted = os.stat("/run/netns/" + self.name).st_ino
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError, IndexError):
                if os.path.basename(os.readlink(f"/proc/{pid}/exe")).startswith("gantry-plugin-host") and os.stat(f"/proc/{pid}/ns/net").st_ino == wanted:
                    with open(f"/proc/{pid}/cmdline") as f:
                        found[int(pid)] = f.read().split("\0")[1]
        return found

    def cgroups(self):
        """Our cgroup directories, over all hierarchies."""
        found = []
        roots = [CGROUP] + [os.path.join(CGROUP, name) for name in os.listdir(CGROUP)]
        for root in roots:
            top = root + self.cgroup_parent
            if os.path.isdir(top):
                found.extend(path for path, _, _ in os.walk(top))
        return found

    def links(self):
        out = run("ip", "-n", self.name, "-j", "link").out
        return [link["ifname"] for link in json.loads(out or "[]")]

    def nft(self):
        return run(*self.in_netns("nft", "list", "ruleset")).out

    def audit(self):
        """What is left although no container exists. Returns complaints."""
        def look():
            leaks = []
            shims = [pid for pid in self.pids() if self.process is None or pid != self.process.pid]
            for pid in shims:
                with contextlib.suppress(OSError):
                    with open(f"/proc/{pid}/cmdline") as f:
                        line = f.read().replace("\0", " ")
                    if "gantryd" not in line:
                        leaks.append(f"process {pid} {line}")
            leaks += [f"cgroup {path}" for path in self.cgroups() if os.path.basename(path) != self.name]
            leaks += [f"link {name}" for name in self.links() if name.startswith("gtv")]
            with open("/proc/self/mountinfo") as f:
                leaks += [f"mount {line.split()[4]}" for line in f if self.dir in line or self.run_dir in line]
            for base in (self.run_dir, self.root):
                containers = os.path.join(base, "containers")
                if os.path.isdir(containers):
                    leaks += [f"{containers}/{entry}" for entry in os.listdir(containers) if not entry.startswith(".")]
            return leaks
        end = time.monotonic() + 5 * SLOW
        while True:
            leaks = look()
            if not leaks or time.monotonic() > end:
                return leaks
            time.sleep(0.05)

    def remove_everything(self):
        for container in self.json("GET", "/containers/json?all=1"):
            self.api("DELETE", f"/containers/{container['Id']}?force=1&v=1")
        for network in sorted(self.json("GET", "/networks"), key=lambda network: network["ConfigOnly"]):     # what is made from a configuration first
            if network["Name"] not in ("bridge", "host", "none"):
                self.api("DELETE", "/networks/" + network["Id"])
        for volume in self.json("GET", "/volumes")["Volumes"] or []:
            self.api("DELETE", f"/volumes/{volume['Name']}?force=1")

    # ---- the API, raw ----

    def api(self, method, path, body=None, headers=None, version="/v1.50", timeout=60):
        """One request; the response has .status, .headers and .body (bytes)."""
        connection = UnixConnection(self.socket, timeout * SLOW)
        data = body
        headers = dict(headers or {})
        if isinstance(body, (dict, list)):
            data = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        connection.request(method, version + path, data, headers)
        response = connection.getresponse()
        response.body = response.read()
        connection.close()
        return response

    def json(self, method, path, body=None, expect=(200, 201), **kw):
        response = self.api(method, path, body, **kw)
        assert response.status in expect, f"{method} {path}: {response.status} {response.body[:500]}"
        return json.loads(response.body) if response.body else None

    def inspect(self, ref):
        return self.json("GET", f"/containers/{ref}/json")

    def state(self, ref):
        return self.inspect(ref)["State"]["Status"]

    # ---- command lines ----

    def docker(self, *args, check=True, stdin=None, timeout=120):
        return self.command(DOCKER, *args, check=check, stdin=stdin, timeout=timeout)

    def gantry(self, *args, check=True, stdin=None, timeout=120):
        return self.command(os.path.join(BUILD, "bin", "gantry"), *args, check=check, stdin=stdin, timeout=timeout)

    def command(self, *args, check=True, stdin=None, timeout=120):
        """Runs a program in the daemon's network namespace, with its environment."""
        stdin = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(self.in_netns(*args), input=stdin, stdin=subprocess.DEVNULL if stdin is None else None,
                              capture_output=True, env=self.env, timeout=timeout * SLOW)
        result = Result(args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
        if check:
            assert result.code == 0, result
        return result

    def popen(self, *args, **kw):
        kw.setdefault("stdout", subprocess.PIPE)
        kw.setdefault("stderr", subprocess.PIPE)
        return subprocess.Popen(self.in_netns(*args), env=self.env, **kw)

    def terminal(self, *args):
        """The program on a pseudo-terminal of 24 by 80."""
        return Terminal(self.in_netns(*args), self.env)

    def client(self):
        import docker
        return docker.DockerClient(base_url="unix://" + self.socket, version="auto", timeout=60 * SLOW)


class Terminal:
    """A program that believes a person sits in front of it."""

    def __init__(self, args, env):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(args[0], args, {**env, "TERM": "xterm"})
        self.resize(24, 80)
        self.seen = ""

    def resize(self, rows, cols):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def send(self, text):
        os.write(self.fd, text.encode())

    def expect(self, text, timeout=15):
        """Reads on until `text` has come; what came before it is dropped."""
        end = time.monotonic() + timeout * SLOW
        while text not in self.seen:
            ready, _, _ = select.select([self.fd], [], [], max(0, end - time.monotonic()))
            if not ready:
                raise AssertionError(f"{text!r} did not come; what came: {self.seen!r}")
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                data = b""
            if not data:
                raise AssertionError(f"{text!r} did not come before the end; what came: {self.seen!r}")
            self.seen += data.decode(errors="replace")
        before, _, self.seen = self.seen.partition(text)
        return before

    def wait(self, timeout=20):
        """Reads to the end and returns the exit status."""
        end = time.monotonic() + timeout * SLOW
        while True:
            ready, _, _ = select.select([self.fd], [], [], 0.05)
            if ready:
                with contextlib.suppress(OSError):
                    self.seen += os.read(self.fd, 65536).decode(errors="replace")
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                os.close(self.fd)
                raise AssertionError(f"the program did not end; what came: {self.seen!r}")


def run(*args):
    done = subprocess.run(args, capture_output=True)
    return Result(args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def build_debian_rootfs():
    """mmdebstrap takes minutes: the tar is kept below build/cache for the next run."""
    cache = os.path.join(REPO, "build", "cache")
    path = os.path.join(cache, "debian.tar")
    os.makedirs(cache, exist_ok=True)
    with open(os.path.join(cache, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(path):
            excludes = [f"--dpkgopt=path-exclude=/usr/share/{d}/*" for d in ("man", "doc", "locale", "info")]
            partial = os.path.join(cache, "partial.tar")
            subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", "--include=gcc,libc6-dev,nginx-light,postgresql",
                            *excludes, "bookworm", partial], check=True)
            os.rename(partial, path)
    return path
