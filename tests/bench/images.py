"""Images over a registry on loopback: pull and push beside Docker and Podman, skopeo (which does not unpack), and `gzip -dc | tar x` of the same
blobs."""

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile

from harness import wait_until

SHARES = (0.5, 0.25, 0.15, 0.08, 0.02)          # of the bytes, for each layer
TREES = ("/usr/lib", "/usr/share", "/usr/bin", "/usr/include", "/usr/sbin", "/var/lib/dpkg")
FILES, BYTES = 18000, 267 << 20
PORT = 5055


def candidates():
    """Files of the host, as an image of Debian has them: many small ones, some large."""
    for top in TREES:
        for path, dirs, files in os.walk(top):
            dirs.sort()
            for name in sorted(files):
                full = os.path.join(path, name)
                if os.path.isfile(full) and not os.path.islink(full) and os.path.getsize(full) < 24 << 20:
                    yield full


def choose():
    """FILES files of about BYTES in all, spread over the host's."""
    every = list(candidates())
    step = max(1, len(every) // FILES)
    chosen, total = [], 0
    for path in every[::step][:FILES]:
        size = os.path.getsize(path)
        if total + size <= BYTES:
            chosen.append(path)
            total += size
    return chosen


def make_layout(directory):
    """An OCI layout of five gzip layers; returns the blobs' paths, base first."""
    blobs = os.path.join(directory, "blobs", "sha256")
    os.makedirs(blobs)

    def add(data):
        digest = hashlib.sha256(data).hexdigest()
        with open(os.path.join(blobs, digest), "wb") as f:
            f.write(data)
        return {"digest": "sha256:" + digest, "size": len(data)}
    files, layers, diffs, at = choose(), [], [], 0
    for number, share in enumerate(SHARES):
        end = len(files) if number == len(SHARES) - 1 else at + int(share * len(files))
        path = os.path.join(directory, "layer.tar")
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
            made = set()
            for name in files[at:end]:
                for depth in range(2, name.count("/") + 1):
                    above = "/".join(name.split("/")[:depth])
                    if above not in made:
                        made.add(above)
                        tar.add(above, recursive=False)
                tar.add(name, recursive=False)
        at = end
        with open(path, "rb") as f:
            diffs.append("sha256:" + hashlib.file_digest(f, "sha256").hexdigest())
        packed = subprocess.run(["gzip", "-6", "-n", "-c", path], capture_output=True, check=True).stdout
        os.unlink(path)
        layers.append({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", **add(packed)})
    config = add(json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diffs}}).encode())
    manifest = add(json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": {
        "mediaType": "application/vnd.oci.image.config.v1+json", **config}, "layers": layers}).encode())
    with open(os.path.join(directory, "index.json"), "w") as f:
        json.dump({"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json", **manifest,
                                                      "annotations": {"org.opencontainers.image.ref.name": "1"}}]}, f)
    with open(os.path.join(directory, "oci-layout"), "w") as f:
        f.write('{"imageLayoutVersion": "1.0.0"}')
    return [os.path.join(blobs, layer["digest"][7:]) for layer in layers]


class Transfers:
    """Works for Bench: each is a pair of what comes before and what is timed."""

    def __init__(self, engines, daemon, work):
        self.engines, self.daemon, self.work = engines, daemon, os.path.join(work, "transfers")
        os.makedirs(self.work)
        self.blobs = make_layout(os.path.join(self.work, "layout"))
        with open(os.path.join(self.work, "config.yml"), "w") as f:
            json.dump({"version": 0.1, "storage": {"filesystem": {"rootdirectory": os.path.join(self.work, "registry")}},
                       "http": {"addr": f"127.0.0.1:{PORT}"}, "log": {"level": "error", "accesslog": {"disabled": True}}}, f)
        self.registry = daemon.popen("docker-registry", "serve", os.path.join(self.work, "config.yml"), stdout=subprocess.DEVNULL,
                                     stderr=subprocess.DEVNULL)
        self.name = f"127.0.0.1:{PORT}/bench"
        wait_until(lambda: daemon.command("bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{PORT}", check=False).code == 0, 20, "docker-registry")
        daemon.command("skopeo", "copy", "--dest-tls-verify=false", f"oci:{self.work}/layout:1", f"docker://{self.name}:1")
        self.pushes = 0

    def close(self):
        self.registry.terminate()
        self.registry.wait()

    def insecure(self, engine):
        return ["--tls-verify=false"] if engine.name == "podman" else []

    def forget(self, engine):
        """Nobody pays for the files that the one before has not written or removed yet."""
        engine("rmi", "-f", f"{self.name}:1", check=False)
        trash = os.path.join(self.daemon.root, "storage", "overlay", "trash")
        wait_until(lambda: not os.listdir(trash), 60, "the trash being empty")
        os.sync()

    def fresh(self):
        """A directory in a block group of ext4 of its own, as beside many inodes that were removed lately each new file takes long."""
        shutil.rmtree(os.path.join(self.work, "fresh"), ignore_errors=True)
        os.mkdir(os.path.join(self.work, "fresh"))
        subprocess.run(["chattr", "+T", os.path.join(self.work, "fresh")], stderr=subprocess.DEVNULL)
        self.ground = tempfile.mkdtemp(dir=os.path.join(self.work, "fresh"))
        os.sync()

    def tar(self):
        """The floor: one layer after the other."""
        for blob in self.blobs:
            subprocess.run(f"gzip -dc {blob} | tar -C {self.ground} -xf -", shell=True, check=True)

    def skopeo(self):
        self.daemon.command("skopeo", "copy", "--src-tls-verify=false", f"docker://{self.name}:1", f"oci:{self.ground}:1")

    def pulls(self):
        works = {e.name: (lambda e=e: self.forget(e), lambda e=e: e("pull", *self.insecure(e), f"{self.name}:1")) for e in self.engines}
        works["skopeo"] = self.fresh, self.skopeo
        works["gzip+tar"] = self.fresh, self.tar
        return works

    def push(self, engine, target):
        engine("push", *self.insecure(engine), target)

    def uploads(self):
        """To a repository that has nothing of it yet, after the blobs that the image came as are gone."""
        def before(e, target):
            shutil.rmtree(os.path.join(self.work, "registry"), ignore_errors=True)
            e("tag", f"{self.name}:1", target)
        return {e.name: (lambda e=e: before(e, f"{self.name}-{e.name}:1"), lambda e=e: self.push(e, f"{self.name}-{e.name}:1"))
                for e in self.engines}
