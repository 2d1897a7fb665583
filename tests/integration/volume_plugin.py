"""A server of Docker's volume plugin protocol, written from its documentation alone (Docker Engine, "Docker volume plugins" and "Plugin API"): volumes are
directories, Mount binds them to a place of their own on the host, and mounts are counted by the ids of those who ask.

Run as a program it serves one unix socket: volume_plugin.py SOCKET DIRECTORY [KEY=VALUE...]. Its faults are files below DIRECTORY/faults: a file METHOD holds
"err TEXT", "status CODE", "hang", "die" (before the answer), "garbage", "big", or "body TEXT"; a second line "once" takes it away when it has been used."""

import contextlib
import ctypes
import http.server
import json
import os
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time

from harness import wait_until

MS_BIND, MS_PRIVATE = 4096, 1 << 18
libc = ctypes.CDLL(None, use_errno=True)


class Refused(Exception):
    """What goes to Err."""


def mounts_below(directory):
    with open("/proc/self/mountinfo") as f:
        return [line.split()[4] for line in f if (line.split()[4] + "/").startswith(directory + "/")]


def mounted(path):
    return path in mounts_below(path)


class Volumes:
    """State is one file, so that the server may be killed and begun again."""

    def __init__(self, directory, scope, forgetful):
        self.dir, self.scope, self.lock = directory, scope, threading.Lock()
        self.file = os.path.join(directory, "volumes.json")
        self.volumes = {}
        if os.path.exists(self.file):
            with open(self.file) as f:
                self.volumes = json.load(f)
        if forgetful:
            for volume in self.volumes.values():
                volume["ids"] = []
            self.save()

    def save(self):
        with open(self.file + ".new", "w") as f:
            json.dump(self.volumes, f)
        os.rename(self.file + ".new", self.file)

    def path(self, name, what="data"):
        return os.path.join(self.dir, what, name)

    def find(self, name):
        if name not in self.volumes:
            raise Refused(f"volume {name} not found")
        return self.volumes[name]

    def create(self, body):
        name, options = body["Name"], body.get("Opts") or {}
        for key in options:
            if key not in ("size", "color"):
                raise Refused(f"unknown option {key}")
        if name not in self.volumes:
            os.makedirs(self.path(name))
            self.volumes[name] = {"options": options, "ids": [], "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
            self.save()
        return {}

    def remove(self, body):
        if self.find(body["Name"])["ids"]:
            raise Refused(f"volume {body['Name']} is mounted")
        del self.volumes[body["Name"]]
        self.save()
        shutil.rmtree(self.path(body["Name"]), ignore_errors=True)
        return {}

    def mount(self, body):
        volume, target = self.find(body["Name"]), self.path(body["Name"], "mounts")
        if not mounted(target):
            os.makedirs(target, exist_ok=True)
            if libc.mount(self.path(body["Name"]).encode(), target.encode(), None, MS_BIND, None) < 0:
                raise Refused("mount: " + os.strerror(ctypes.get_errno()))
        if body["ID"] not in volume["ids"]:
            volume["ids"].append(body["ID"])
        self.save()
        return {"Mountpoint": target}

    def unmount(self, body):
        volume, target = self.find(body["Name"]), self.path(body["Name"], "mounts")
        if body["ID"] not in volume["ids"]:
            raise Refused(f"volume {body['Name']} is not mounted by {body['ID']}")
        volume["ids"].remove(body["ID"])
        if not volume["ids"]:
            self.unmount_all(target)
        self.save()
        return {}

    def unmount_all(self, target):
        while mounted(target) and libc.umount2(target.encode(), 2) == 0:
            pass
        with contextlib.suppress(OSError):
            os.rmdir(target)

    def mountpoint(self, name):
        return self.path(name, "mounts") if self.find(name)["ids"] else ""

    def get(self, body):
        volume = self.find(body["Name"])
        return {"Volume": {"Name": body["Name"], "Mountpoint": self.mountpoint(body["Name"]), "CreatedAt": volume["created"],
                           "Status": {"options": volume["options"], "ids": volume["ids"]}}}

    def list(self, body):
        return {"Volumes": [{"Name": name, "Mountpoint": self.mountpoint(name)} for name in self.volumes]}

    def answer(self, method, body):
        calls = {"Create": self.create, "Remove": self.remove, "Mount": self.mount, "Unmount": self.unmount, "Get": self.get, "List": self.list,
                 "Path": lambda b: {"Mountpoint": self.mountpoint(b["Name"])}, "Capabilities": lambda b: {"Capabilities": {"Scope": self.scope}}}
        with self.lock:
            return calls[method](body)


def serve(path, directory, scope="local", forgetful="no", implements="VolumeDriver"):
    volumes = Volumes(directory, scope, forgetful == "yes")

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def address_string(self):
            return "unix"

        def send(self, status, body):
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.docker.plugins.v1.1+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def fault(self, method):
            file = os.path.join(directory, "faults", method)
            try:
                with open(file) as f:
                    lines = f.read().splitlines()
            except OSError:
                return False
            if lines[1:] == ["once"]:
                os.unlink(file)
            word, _, rest = lines[0].partition(" ")
            if word == "hang":
                time.sleep(float(rest or 600))
            elif word == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            elif word == "after":                    # it is done, but nobody hears of it
                volumes.answer(method, self.body)
                time.sleep(600)
            elif word == "garbage":
                self.send(200, b"\x00\xff{[")
            elif word == "big":
                self.send(200, b'{"Err":"' + b"x" * (5 << 20) + b'"}')
            else:
                status, body = {"err": (500, json.dumps({"Err": rest.encode().decode("unicode_escape")})), "status": (int(rest) if rest.isdigit() else 0, "no"),
                                "body": (200, rest)}[word]
                self.send(status, body.encode())
            return True

        def do_POST(self):
            size = int(self.headers.get("Content-Length", 0))
            self.body = json.loads(self.rfile.read(size) or b"{}")
            owner, _, method = self.path.strip("/").partition(".")
            with volumes.lock, open(os.path.join(directory, "log"), "a") as f:
                f.write(json.dumps([method, self.body]) + "\n")
            if self.fault(method):
                return
            if self.path == "/Plugin.Activate":
                self.send(200, json.dumps({"Implements": implements.split(",")}).encode())
                return
            try:
                assert owner == "VolumeDriver"
                self.send(200, json.dumps({**volumes.answer(method, self.body), "Err": ""}).encode())
            except Refused as refusal:
                self.send(500, json.dumps({"Err": str(refusal)}).encode())
            except (AssertionError, KeyError):
                self.send(404, b"404 page not found\n")

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True
        request_queue_size = 64

    if os.path.exists(path):
        os.unlink(path)
    Server(path, Handler).serve_forever()


class VolumePlugin:
    """Such a server as a process of its own, in the host's mount namespace as a plugin is."""

    def __init__(self, directory, name, sockets=None, **settings):
        self.name, self.dir, self.settings = name, os.path.join(str(directory), name), settings
        self.sockets = str(sockets or directory)
        self.socket = os.path.join(self.sockets, name + ".sock")
        os.makedirs(os.path.join(self.dir, "faults"), exist_ok=True)
        self.process = None
        self.start()

    def start(self, **settings):
        words = [f"{key}={value}" for key, value in {**self.settings, **settings}.items()]
        self.process = subprocess.Popen([sys.executable, __file__, self.socket, self.dir, *words], cwd=os.path.dirname(__file__))
        wait_until(self.answers, what="the plugin's socket")

    def answers(self):
        with socket.socket(socket.AF_UNIX) as s:
            return s.connect_ex(self.socket) == 0

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def fault(self, method, text):
        file = os.path.join(self.dir, "faults", method)
        if text is None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file)
            return
        with open(file + ".new", "w") as f:
            f.write(text)
        os.rename(file + ".new", file)

    def state(self):
        try:
            with open(os.path.join(self.dir, "volumes.json")) as f:
                return json.load(f)
        except FileNotFoundError:
            return {}

    def ids(self, name):
        return self.state()[name]["ids"]

    def calls(self, method):
        try:
            with open(os.path.join(self.dir, "log")) as f:
                return [body for m, body in map(json.loads, f) if m == method]
        except FileNotFoundError:
            return []

    def mounts(self):
        return mounts_below(self.dir)

    def stop(self):
        self.kill()
        for target in self.mounts():
            libc.umount2(target.encode(), 2)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], **dict(word.split("=", 1) for word in sys.argv[3:]))
