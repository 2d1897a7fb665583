"""A registry that a test scripts: images made in memory, and faults wherever a test wants them."""

import ctypes
import gzip
import hashlib
import io
import json
import os
import re
import socket
import ssl
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker.distribution."
_libc = ctypes.CDLL(None, use_errno=True)


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def tar_of(files):
    """files: {name: bytes}, or [(name, bytes) or TarInfo or (TarInfo, bytes), ...], or a tar that is ready."""
    if isinstance(files, bytes):
        return files
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for item in files.items() if isinstance(files, dict) else files:
            entry, content = item if isinstance(item, tuple) else (item, b"")
            if isinstance(entry, str):
                entry = tarfile.TarInfo(entry)
                entry.mode = 0o755
            entry.size = entry.size or len(content)
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def entry(name, kind=tarfile.REGTYPE, **fields):
    """A tar entry with any field set: mode, uid, mtime, linkname, pax_headers, ..."""
    info = tarfile.TarInfo(name)
    info.type, info.mode = kind, 0o755
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def socket_in(netns):
    """A socket in a network namespace: it stays where it was made."""
    made = []

    def work():
        with open("/run/netns/" + netns) as ns:
            if _libc.setns(ns.fileno(), 0x40000000) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        made.append(socket.socket())
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return made[0]


def listen_in(netns, address, port=0):
    """A listening socket in a network namespace."""
    sock = socket_in(netns)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, port))
    sock.listen(64)
    return sock


class Image:
    """Blobs, config and manifest of an image. layers: file trees; pack: bytes -> bytes for each."""

    def __init__(self, layers, architecture="amd64", variant=None, pack=None, kind="oci", layer_type=None):
        pack = pack or (lambda data: gzip.compress(data, 6, mtime=0))
        self.blobs, tars = {}, [tar_of(files) for files in layers]
        self.config = {"architecture": architecture, "os": "linux", "config": {"Cmd": ["/bin/busybox", "true"]},
                       "rootfs": {"type": "layers", "diff_ids": [sha256(t) for t in tars]},
                       "history": [{"created_by": f"step {i}"} for i in range(len(tars))]}
        if variant:
            self.config["variant"] = variant
        packed = [pack(t) for t in tars]
        self.layers = [self.add(p) for p in packed]
        oci = kind == "oci"
        self.layer_type = layer_type or (OCI + "layer.v1.tar+gzip" if oci else "application/vnd.docker.image.rootfs.diff.tar.gzip")
        self.type = OCI + "manifest.v1+json" if oci else DOCKER + "manifest.v2+json"
        self.config_type = OCI + "config.v1+json" if oci else "application/vnd.docker.container.image.v1+json"
        self.finish()

    def add(self, data):
        self.blobs[sha256(data)] = data
        return sha256(data)

    def finish(self):
        config = json.dumps(self.config).encode()
        self.id = self.add(config)
        self.manifest = {"schemaVersion": 2, "mediaType": self.type,
                         "config": {"mediaType": self.config_type, "digest": self.id, "size": len(config)},
                         "layers": [{"mediaType": self.layer_type, "digest": d, "size": len(self.blobs[d])} for d in self.layers]}
        return self

    @property
    def bytes(self):
        return json.dumps(self.manifest).encode()

    @property
    def digest(self):
        return sha256(self.bytes)


def index_of(entries):
    """entries: (Image, platform dict or None) -> the bytes of an OCI index."""
    manifests = []
    for image, platform in entries:
        item = {"mediaType": image.type, "digest": image.digest, "size": len(image.bytes)}
        if platform:
            item["platform"] = platform
        manifests.append(item)
    return json.dumps({"schemaVersion": 2, "mediaType": OCI + "index.v1+json", "manifests": manifests}).encode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def handle(self):
        try:
            super().handle()
        except (ConnectionError, ssl.SSLError):
            pass

    def reply(self, status, body=b"", content_type="application/json", **headers):
        body = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def error(self, status, code, message="no", **headers):
        self.reply(status, {"errors": [{"code": code, "message": message}]}, **headers)

    def drop(self):
        """Ends the connection in the middle of whatever it is."""
        self.wfile.flush()
        self.close_connection = True
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def do_any(self):
        fake = self.server.fake
        self.start = int(m[1]) if (m := re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))) else 0
        with fake.lock:
            fake.requests.append((self.command, self.path, dict(self.headers)))
            fake.clients.add(self.client_address)
        for hook in list(fake.hooks):
            if hook(self):
                return
        self.serve()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_any

    def serve(self):
        fake = self.server.fake
        if self.path == "/v2/":
            return self.reply(200, {})
        if m := re.match(r"/v2/(.+)/manifests/(.+)$", self.path):
            found = fake.manifests.get((m[1], m[2]))
            if not found:
                return self.error(404, "MANIFEST_UNKNOWN", "manifest unknown")
            kind, data = found
            return self.reply(200, data, kind, Docker_Content_Digest=sha256(data))
        if m := re.match(r"/v2/(.+)/blobs/(sha256:[0-9a-f]{64})$", self.path):
            data = fake.blobs.get(m[2])
            if data is None:
                return self.error(404, "BLOB_UNKNOWN", "blob unknown")
            return self.blob(data)
        if m := re.match(r"/v2/(.+)/tags/list", self.path):
            return self.reply(200, {"name": m[1], "tags": [t for r, t in fake.manifests if r == m[1] and ":" not in t]})
        return self.error(404, "UNSUPPORTED", "not here")

    def blob(self, data, upto=None):
        part = data[self.start:]
        self.send_response(206 if self.start else 200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(part)))
        if self.start:
            self.send_header("Content-Range", f"bytes {self.start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(part if upto is None else part[:upto])
            self.server.fake.sent += len(part) if upto is None else min(upto, len(part))


class FakeRegistry:
    def __init__(self, daemon, address="127.0.0.1", tls=None):
        self.lock = threading.Lock()
        self.manifests, self.blobs, self.hooks, self.requests, self.sent = {}, {}, [], [], 0
        self.clients = set()            # addresses that requests came from: one for each connection
        self.server = ThreadingHTTPServer((address, 0), Handler, bind_and_activate=False)
        self.server.socket.close()
        self.server.socket = listen_in(daemon.name, address)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.server.daemon_threads = True
        self.server.fake = self
        self.host = f"{address}:{self.server.socket.getsockname()[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def add(self, image, repository="app", tag="1"):
        self.blobs.update(image.blobs)
        self.put(repository, image.type, image.bytes, tag)
        return f"{self.host}/{repository}:{tag}"

    def put(self, repository, kind, data, tag=None):
        self.manifests[repository, sha256(data)] = kind, data
        if tag:
            self.manifests[repository, tag] = kind, data

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def tree(seed, size=300_000, files=3):
    """A file tree of random but repeatable bytes."""
    import random
    source = random.Random(seed)
    out = {f"f{seed}-{i}": source.randbytes(size // files) for i in range(files)}
    with open("/bin/busybox", "rb") as f:
        out["busybox"] = f.read() if seed == 0 else b""
    return {name: data for name, data in out.items() if data}


def orphans(daemon):
    """What is below the daemon's image store: layers, recipes, documents, spooled files; and the storage driver's layers, with as many short names."""
    def names(*path):
        path = os.path.join(daemon.root, *path)
        return sorted(os.listdir(path)) if os.path.isdir(path) else []
    found = [f"{name}/{entry}" for name in ("configs", "manifests", "meta", "layers", "recipes", "spool") for entry in names("images", name)]
    found += ["storage/" + entry for entry in names("storage", "overlay", "layers")]
    return found + [f"l/{i}" for i, _ in enumerate(names("storage", "overlay", "l"))]
