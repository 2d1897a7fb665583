"""File systems of a test's own: an image file, mounted, or on a loop device, for as long as the test takes."""

import contextlib
import os
import shutil
import subprocess
import tempfile

import pytest


@contextlib.contextmanager
def mounted(workdir, kind, size, *options, image_dir=None):
    """A new file system of `kind` and `size` bytes below workdir; its image lies in image_dir where one is given. Unmounted whatever happens."""
    if not shutil.which("mkfs." + kind):
        pytest.skip(f"no mkfs.{kind} here")
    where = tempfile.mkdtemp(prefix=kind + "-", dir=workdir)
    image, top = os.path.join(image_dir or where, "disk"), os.path.join(where, "top")
    with open(image, "wb") as f:
        f.truncate(size)
    os.mkdir(top)
    subprocess.run(["mkfs." + kind, "-q", *options, image], check=True, capture_output=True)
    done = subprocess.run(["mount", "-o", "loop", image, top], capture_output=True, text=True)
    if done.returncode:
        shutil.rmtree(where)
        pytest.skip(f"no {kind} or no loop device here: {done.stderr.strip()}")
    try:
        yield top
    finally:
        subprocess.run(["umount", top], check=False, capture_output=True)
        if os.path.ismount(top):
            subprocess.run(["umount", "-l", top], check=True)
        shutil.rmtree(where)


@contextlib.contextmanager
def device(workdir, kind, size, *options):
    """A loop device with a new file system of `kind` and `size` bytes, whose image lies below workdir."""
    if not shutil.which("mkfs." + kind):
        pytest.skip(f"no mkfs.{kind} here")
    image = os.path.join(workdir, kind + ".disk")
    with open(image, "xb") as f:
        f.truncate(size)
    subprocess.run(["mkfs." + kind, "-q", *options, image], check=True, capture_output=True)
    done = subprocess.run(["losetup", "--find", "--show", image], capture_output=True, text=True)
    if done.returncode:
        os.unlink(image)
        pytest.skip(f"no loop device here: {done.stderr.strip()}")
    try:
        yield done.stdout.strip()
    finally:
        subprocess.run(["losetup", "--detach", done.stdout.strip()], check=True, capture_output=True)
        os.unlink(image)


def devices_of(directory):
    """Loop devices whose images lie below the directory."""
    out = subprocess.run(["losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE"], check=True, capture_output=True, text=True).stdout
    return [line.split()[0] for line in out.splitlines() if line.split(None, 1)[1].startswith(str(directory) + "/")]
