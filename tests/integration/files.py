"""Trees of files compared: what an image's container sees, what others unpack."""

import hashlib
import os
import stat
import subprocess


def describe(path, directory_times=True):
    """Everything of one file that a tar can carry."""
    st = os.lstat(path)
    link, data, attributes = "", b"", {}
    if stat.S_ISLNK(st.st_mode):
        link = os.readlink(path)
    else:
        attributes = {name: os.getxattr(path, name) for name in os.listxattr(path) if not name.startswith("trusted.overlay.")}
    if stat.S_ISREG(st.st_mode):
        with open(path, "rb") as f:
            data = f.read()
    special = st.st_rdev if stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode) else 0
    links = st.st_nlink if stat.S_ISREG(st.st_mode) else 1
    time = st.st_mtime_ns if directory_times or not stat.S_ISDIR(st.st_mode) else None
    return oct(st.st_mode), st.st_uid, st.st_gid, links, time, special, link, len(data), hashlib.sha256(data).hexdigest(), attributes


def listing(root, below="", **how):
    """{name: description} of what is below root/below on its own file system."""
    found, device = {}, os.stat(root).st_dev
    for path, dirs, files in os.walk(os.path.join(root, below)):
        for name in dirs + files:
            full = os.path.join(path, name)
            if os.lstat(full).st_dev == device:
                found[os.path.relpath(full, root)] = describe(full, **how)
        dirs[:] = [name for name in dirs if os.lstat(os.path.join(path, name)).st_dev == device]
    return found


def of_container(daemon, image, command, below="", **how):
    """The listing of a running container's root: what the kernel makes of the image's layers."""
    daemon.docker("run", "-d", "--name", "look", "--network", "none", "--entrypoint", command[0], image, *command[1:])
    try:
        return listing(f"/proc/{daemon.inspect('look')['State']['Pid']}/root", below, **how)
    finally:
        daemon.docker("rm", "-f", "look")


def of_export(daemon, image, directory, **how):
    """The same by way of export, unpacked by GNU tar."""
    daemon.docker("create", "--name", "look", "--entrypoint", "/x", image)
    daemon.docker("export", "-o", str(directory) + ".tar", "look")
    daemon.docker("rm", "look")
    os.mkdir(directory)
    subprocess.run(["tar", "-C", str(directory), "--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf", str(directory) + ".tar"], check=True)
    return listing(directory, **how)
