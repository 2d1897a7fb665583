"""What the tests of registries share: Debian's docker-registry, pulls by the API, certificates, a token server, and a store without images."""

import base64
import json
import socket
import subprocess
import threading
import time

from fake_registry import listen_in, socket_in
from harness import IMAGE, wait_until


class Registry:
    """Debian's docker-registry in a daemon's network namespace."""

    def __init__(self, daemon, path, address="127.0.0.1", port=5000, http=None, auth=None):
        config = {"version": 0.1, "storage": {"filesystem": {"rootdirectory": str(path / "data")}, "delete": {"enabled": True}},
                  "http": {"addr": f"{address}:{port}", **(http or {})}, "log": {"level": "error", "accesslog": {"disabled": True}}}
        if auth:
            config["auth"] = auth
        (path / "config.yml").write_text(json.dumps(config))
        self.host = f"{address}:{port}"
        self.process = daemon.popen("docker-registry", "serve", str(path / "config.yml"),
                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: daemon.command("bash", "-c", f"exec 3<>/dev/tcp/{address}/{port}", check=False).code == 0, 20, "docker-registry")

    def stop(self):
        self.process.terminate()
        self.process.wait()


def clean(daemon):
    """Removes every image but the embedded one."""
    daemon.remove_everything()
    for image in daemon.json("GET", "/images/json?all=1"):
        for name in image["RepoTags"] + image["RepoDigests"]:
            if name != IMAGE + ":latest":
                daemon.api("DELETE", f"/images/{name}?force=1")
        if IMAGE + ":latest" not in image["RepoTags"]:
            daemon.api("DELETE", f"/images/{image['Id']}?force=1")


def pull(daemon, reference, auth=None, platform=None, timeout=120):
    """POST /images/create; returns (status, messages)."""
    name, _, tag = reference.rpartition("@") if "@" in reference else reference.rpartition(":")
    path = f"/images/create?fromImage={name}&tag={tag}" + (f"&platform={platform}" if platform else "")
    headers = {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(auth).encode()).decode()} if auth is not None else {}
    response = daemon.api("POST", path, headers=headers, timeout=timeout)
    lines = [json.loads(line) for line in response.body.decode().split("\n") if line.strip()]
    return response.status, lines


def error_of(result):
    status, lines = result
    if status != 200:
        return lines[0]["message"]
    assert "errorDetail" in lines[-1], lines
    return lines[-1]["errorDetail"]["message"]


def pulled(result):
    status, lines = result
    assert status == 200 and "errorDetail" not in lines[-1], lines[-3:]
    return lines


ADDRESS = "10.99.0.1"


def certificates(path, address):
    """A CA, a server certificate for the address, and a client certificate."""
    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=path, check=True, capture_output=True)
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test ca", "-keyout", "ca.key", "-out", "ca.crt")
    for name, extension in (("server", f"subjectAltName=IP:{address}"), ("client", "extendedKeyUsage=clientAuth")):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", name + ".key", "-out", name + ".csr")
        (path / "ext").write_text(extension)
        openssl("x509", "-req", "-in", name + ".csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "ext",
                "-out", name + ".crt")


class Tokens:
    """A token server in front of the fake registry's own paths."""

    def __init__(self, fake, lifetime=300, first_uses=1000):
        self.fake, self.given, self.uses, self.count, self.left = fake, [], [first_uses], 0, {}
        self.answer = lambda: {"token": f"t{self.count}", "expires_in": lifetime}
        fake.hooks.append(self.hook)

    def hook(self, request):
        if request.path.startswith("/token"):
            self.count += 1
            self.left[f"Bearer t{self.count}"] = self.uses.pop() if self.uses else 1000
            body = request.rfile.read(int(request.headers.get("Content-Length", 0))).decode()
            self.given.append((request.command, request.path, body, request.headers.get("Authorization")))
            answer = self.answer()
            request.reply(200, answer)
            return True
        token = request.headers.get("Authorization")
        if self.left.get(token, 0) > 0:
            self.left[token] -= 1
            return False
        request.error(401, "UNAUTHORIZED", "authentication required",
                      WWW_Authenticate=f'Bearer realm="http://{self.fake.host}/token",service="the, service",error="invalid_token"')
        return True


def slow(fake, image, delay=0.02):
    """Blobs come in drops."""
    def drip(request):
        if "/blobs/" not in request.path or request.path[-71:] == image.id:
            return False
        data = fake.blobs[request.path[-71:]][request.start:]
        request.send_response(206 if request.start else 200)
        if request.start:
            request.send_header("Content-Range", f"bytes {request.start}-{request.start + len(data) - 1}/{request.start + len(data)}")
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        for at in range(0, len(data), 50_000):
            request.wfile.write(data[at:at + 50_000])
            time.sleep(delay)
        return True
    fake.hooks.append(drip)
    return drip


class Cutter:
    """A wire to a registry that breaks: what comes from there is counted over all connections, and at each point of a list the connection that
    carries it is cut."""

    def __init__(self, daemon, upstream):
        address, _, port = upstream.rpartition(":")
        self.upstream = address, int(port)
        self.lock = threading.Lock()
        self.passed, self.points, self.open = 0, [], True
        self.listener = listen_in(daemon.name, "127.0.0.1")
        self.host = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.netns = daemon.name
        threading.Thread(target=self.serve, daemon=True).start()

    def cut_at(self, points):
        with self.lock:
            self.passed, self.points = 0, list(points)

    def serve(self):
        while self.open:
            try:
                client, _ = self.listener.accept()
                server = socket_in(self.netns)
                server.connect(self.upstream)
            except OSError:
                continue
            threading.Thread(target=self.up, args=(client, server), daemon=True).start()
            threading.Thread(target=self.down, args=(client, server), daemon=True).start()

    def up(self, client, server):
        try:
            while data := client.recv(65536):
                server.sendall(data)
        except OSError:
            pass
        self.end(client, server)

    def down(self, client, server):
        try:
            while data := server.recv(65536):
                with self.lock:
                    cut = bool(self.points) and self.passed + len(data) > self.points[0]
                    if cut:
                        data = data[:max(0, self.points.pop(0) - self.passed)]
                    self.passed += len(data)
                client.sendall(data)
                if cut:
                    break
        except OSError:
            pass
        self.end(client, server)

    @staticmethod
    def end(*sockets):
        for s in sockets:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.open = False
        self.end(self.listener)
        self.listener.close()
