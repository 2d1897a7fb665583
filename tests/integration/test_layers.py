"""Layers from strangers (OCI image-spec layer.md): stacks of handmade tars are pulled; what a container sees is what umoci makes of them, or what the
specification says."""

import gzip
import io
import json
import os
import struct
import subprocess
import tarfile

import pytest

from fake_registry import Image, entry, tar_of, tree
from files import listing, of_container
from registries import error_of, pull, pulled

DIR, LINK, SYM, CHR, BLK, FIFO = tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE


def base(*more):
    return [("busybox", tree(0)["busybox"]), entry("t", DIR, mtime=5), *more]


def f(name, text=b"", **fields):
    return entry(name, mode=fields.pop("mode", 0o644), mtime=fields.pop("mtime", 11), **fields), text


def pax(records, *following):
    """A tar of one pax header with raw records (bytes -> bytes), and what follows it."""
    body = b""
    for key, value in records:
        line = b" " + key + b"=" + value + b"\n"
        size = len(line)
        while len(str(size)) + len(line) != size:
            size = len(str(size)) + len(line)
        body += str(size).encode() + line
    head = entry("pax", tarfile.XHDTYPE)
    return tar_of([(head, body)])[:512 + (len(body) + 511) // 512 * 512] + tar_of(list(following))


CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)        # cap_net_bind_service, effective

# name -> layers; what lies below t/ is compared
STACKS = {
    "whiteouts": [base(f("t/gone", b"x"), f("t/kept", b"y"), entry("t/d", DIR), f("t/d/x", b"1"), f("t/d/y", b"2")),
                  [entry("t/.wh.gone"), entry("t/.wh.never-was"), entry("t/d/.wh.x")], [entry("t/.wh.d")]],
    "a-whiteout-and-its-name-again": [base(f("t/a", b"old"), entry("t/d", DIR), f("t/d/old", b"x")),
                                      [entry("t/.wh.a"), f("t/a", b"new"), entry("t/.wh.d"), entry("t/d", DIR, mode=0o700, mtime=3), f("t/d/new", b"n")]],
    "opaque": [base(entry("t/o", DIR), f("t/o/old", b"x"), entry("t/o/sub", DIR), f("t/o/sub/old", b"x")),
               [entry("t/o", DIR, mtime=4), entry("t/o/.wh..wh..opq"), f("t/o/new", b"n")]],
    "opaque-comes-last": [base(entry("t/o", DIR), f("t/o/old", b"x"), entry("t/o/sub", DIR), f("t/o/sub/old", b"x")),
                          [entry("t/o", DIR, mtime=4), f("t/o/new", b"n"), entry("t/o/sub", DIR, mtime=4), f("t/o/sub/new", b"n"), entry("t/o/.wh..wh..opq")]],
    "opaque-where-nothing-was": [base(), [entry("t/o", DIR, mtime=4), entry("t/o/.wh..wh..opq"), f("t/o/new", b"n")]],
    "file-to-directory-and-back": [base(f("t/x", b"file"), entry("t/y", DIR), f("t/y/inside", b"i")),
                                   [entry("t/x", DIR, mtime=6), f("t/x/inside", b"i"), f("t/y", b"now a file")],
                                   [f("t/x", b"a file again"), entry("t/y", DIR, mtime=8)], [entry("t/x", SYM, linkname="y"), f("t/y/late", b"l")]],
    "links-and-their-targets": [base(f("t/a", b"a"), entry("t/l", SYM, linkname="a", mtime=9)),
                                [f("t/l", b"a file where a link was"), entry("t/a", SYM, linkname="l", mtime=9)]],
    "duplicates": [base(f("t/a", b"first"), f("t/a", b"second"), entry("t/h", LINK, linkname="t/a"), f("t/a", b"third, which h is not"),
                        entry("t/d", DIR, mode=0o700), f("t/d/x", b"x"), entry("t/d", DIR, mode=0o711, mtime=4), entry("t/s", SYM, linkname="a"),
                        f("t/s", b"s"), f("t/r", b"r"), entry("t/r", SYM, linkname="a", mtime=4))],
    "devices": [base(entry("t/null", CHR, devmajor=1, devminor=3, mode=0o666, mtime=2), entry("t/loop", BLK, devmajor=7, devminor=300, mode=0o640, gid=6),
                     entry("t/pipe", FIFO, mode=0o600, uid=3)), [entry("t/.wh.pipe"), f("t/null", b"no device any more")]],
    "owners-and-modes": [base(f("t/suid", b"x", mode=0o4755, uid=1000, gid=50), entry("t/sticky", DIR, mode=0o1777, mtime=9), f("t/sgid", b"x", mode=0o2711),
                              f("t/large", b"x", uid=4_000_000_000, gid=3_000_000_000), entry("t/setgid", DIR, mode=0o2775, gid=77, mtime=9),
                              f("t/setgid/in", b"x"))],
    "attributes": [tar_of(base()),
                   pax([(b"SCHILY.xattr.security.capability", CAPABILITY), (b"SCHILY.xattr.user.color", b"blue")], f("t/capable", b"x", mode=0o755)),
                   pax([(b"SCHILY.xattr.user.kind", b"dir \xff\x01")], entry("t/d", DIR, mtime=3))],
    "names-of-all-sorts": [base(f("t/ ", b"blank"), f("t/-rf", b"x"), f("t/new\nline", b"x"), f("t/e\u0301", b"decomposed"), f("t/\u00e9", b"composed"),
                                f("t/" + "n" * 255, b"longest"), f("t/" + "/".join(["deep" * 20] * 30) + "/file", b"deep"))],
    "roundabout-names": [base(f("./t/./a", b"1"), f("/t/b", b"2"), f("t//c", b"3"), f("t/x/../d", b"4"), entry("t/up", SYM, linkname="../../.."),
                              entry("t/absolute", SYM, linkname="/t"))],
}


def ours(images, fake, layers, **how):
    name = fake.add(Image(layers))
    pulled(pull(images, name))
    return of_container(images, name, ["/busybox", "sleep", "100"], "t", **how)


def umocis(images, fake, tmp_path, **how):
    images.command("skopeo", "copy", "--src-tls-verify=false", f"docker://{fake.host}/app:1", f"oci:{tmp_path}/layout:1")
    images.command("umoci", "unpack", "--image", f"{tmp_path}/layout:1", str(tmp_path / "bundle"))
    return listing(str(tmp_path / "bundle" / "rootfs"), "t", **how)


@pytest.mark.parametrize("stack", STACKS)
def test_a_stack_is_what_umoci_makes_of_it(images, fake, tmp_path, stack):
    found = ours(images, fake, STACKS[stack], directory_times=False)
    assert found, "nothing below t/"
    assert found == umocis(images, fake, tmp_path, directory_times=False)


def test_hard_links_across_layers(images, fake):
    """A layer cannot hold a link to another layer's inode: it gets a copy, with all that the file had; links among themselves stay links."""
    found = ours(images, fake, [
        tar_of(base()), pax([(b"SCHILY.xattr.user.a", b"b")], f("t/f", b"content", mode=0o4711, uid=7, gid=8, mtime=9)),
        [entry("t/one", LINK, linkname="t/f"), entry("t/two", LINK, linkname="t/one")], [entry("t/.wh.f"), entry("t/three", LINK, linkname="t/f")]])
    assert sorted(found) == ["t/one", "t/three", "t/two"]
    assert found["t/one"] == found["t/two"]
    assert found["t/one"][:5] == (oct(0o104711), 7, 8, 2, 9 * 10**9) and found["t/three"][:5] == (oct(0o104711), 7, 8, 1, 9 * 10**9)
    assert all(item[-1] == {"user.a": b"b"} and item[-3] == 7 for item in found.values())


def test_times_of_directories(images, fake):
    """Those of the topmost layer that has the directory; one that a layer takes for granted keeps what it had."""
    found = ours(images, fake, [base(entry("t/a", DIR, mtime=1), entry("t/b", DIR, mtime=2)), [f("t/a/x"), f("t/b/x")], [entry("t/b", DIR, mtime=3)]])
    assert found["t/a"][4] == 10**9 and found["t/b"][4] == 3 * 10**9
    found = ours(images, fake, [base(entry("t/a", DIR, mtime=1), entry("t/b", DIR, mtime=2)),
                                [f("t/a/x"), entry("t/a", DIR, mode=0o711, mtime=8), f("t/a/y"), entry("t/b", DIR, mtime=4), f("t/b/x"),
                                 entry("t/b", DIR, mtime=5)]])
    assert found["t/a"][4] == 8 * 10**9 and found["t/b"][4] == 5 * 10**9 and found["t/a"][0] == oct(0o40711)


@pytest.mark.parametrize("form", ["--format=gnu", "--format=pax --sparse-version=0.0", "--format=pax --sparse-version=0.1",
                                  "--format=pax --sparse-version=1.0"])
def test_sparse_files(images, fake, tmp_path, form):
    """As GNU tar writes them: contents are the same, holes stay holes."""
    (tmp_path / "t").mkdir()
    for name, parts in (("holes", [(1 << 20, b"one"), (9 << 20, b"two"), (64 << 20, b"end")]), ("empty", []), ("late", [(5 << 20, b"x" * 9000)])):
        with open(tmp_path / "t" / name, "wb") as out:
            out.truncate(70 << 20)
            for at, data in parts:
                out.seek(at)
                out.write(data)
        os.utime(tmp_path / "t" / name, (5, 5))
    data = subprocess.run(["tar", "-C", str(tmp_path), "--sparse", *form.split(), "-cf", "-", "t"], capture_output=True, check=True).stdout
    assert len(data) < 1 << 20
    name = fake.add(Image([tar_of(base()), data]))
    pulled(pull(images, name))
    assert of_container(images, name, ["/busybox", "sleep", "100"], "t") == listing(str(tmp_path), "t")
    out = images.docker("run", "--rm", name, "/busybox", "stat", "-c", "%s %b", "/t/holes", "/t/empty", "/t/late").out.split("\n")
    assert all(line.startswith(f"{70 << 20} ") and int(line.split()[1]) < 2000 for line in out[:3])
    images.docker("save", "-o", str(tmp_path / "saved.tar"), name)      # byte for byte, or it would fail


def test_a_hundred_thousand_files(images, fake, tmp_path):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for d in range(100):
            tar.addfile(entry(f"t/{d}", DIR))
            for i in range(1000):
                tar.addfile(entry(f"t/{d}/{i}"))
    name = fake.add(Image([tar_of(base()), out.getvalue()], pack=lambda data: gzip.compress(data, 1)))
    pulled(pull(images, name, timeout=300))
    assert images.docker("run", "--rm", name, "/busybox", "sh", "-c", "/busybox find /t -type f | /busybox wc -l").out.strip() == "100000"
    images.docker("save", "-o", str(tmp_path / "many.tar"), name, timeout=300)
    images.docker("rmi", name)
    images.docker("load", "-i", str(tmp_path / "many.tar"), timeout=300)
    assert images.docker("run", "--rm", name, "/busybox", "sh", "-c", "/busybox find /t -type f | /busybox wc -l").out.strip() == "100000"


def whole_pax(size):
    return entry("pax", tarfile.XHDTYPE, size=size).tobuf(tarfile.GNU_FORMAT) + b"9" * 512


def deep_names(length):
    return pax([(b"path", b"t/" + b"d/" * ((length - 2) // 2))], f("x", b"x"))


REFUSED = {
    "dotdot": ([f("../evil", b"x")], "leads out"),
    "dotdot-on-the-way": ([f("t/../../evil", b"x")], "leads out"),
    "link-to-outside": ([entry("t/h", LINK, linkname="../../../etc/passwd")], "leads out"),
    "link-to-nothing": ([entry("t/h", LINK, linkname="etc/passwd")], "which is not there"),
    "link-to-a-directory": ([entry("t/h", LINK, linkname="t")], "t/h"),
    "link-through-a-link-to-the-host": ([entry("t/way", SYM, linkname="/etc"), entry("t/h", LINK, linkname="t/way/passwd")], "which is not there"),
    "whiteout-of-dot": ([entry("t/.wh..")], "whiteout that names no file"),
    "whiteout-of-dotdot": ([entry("t/.wh...")], "whiteout that names no file"),
    "whiteout-of-nothing": ([entry("t/.wh.")], "whiteout that names no file"),
    "whiteout-outside": ([entry("../.wh.etc")], "leads out"),
    "name-of-256": ([f("t/" + "n" * 256)], "longer than 255"),
    "name-of-4096": (deep_names(4096 + 2), "longer than 4095"),
    "too-deep": (deep_names(1100), "deeper than"),
    "below-a-file": ([f("t/file", b"x"), f("t/file/x", b"x")], "not a directory"),
    "loop": ([entry("t/loop", SYM, linkname="loop"), f("t/loop/x", b"x")], "links"),
    "socket": ([entry("t/odd", b"9")], None),           # unknown types are files, as POSIX says
    "huge-pax-header": (whole_pax(1 << 40), "archive"),
    "pax-without-end": (pax([(b"path", b"t/x")])[:700], "archive"),
    "many-attributes": (pax([(b"SCHILY.xattr.user.a%d" % i, b"x") for i in range(1000)], f("t/x")), "extended attributes"),
    "large-attribute": (pax([(b"SCHILY.xattr.user.a", b"x" * 70000)], f("t/x")), "larger than 65536"),
    "cut": (tar_of([f("t/x", b"y" * 5000)])[:3000], "archive"),
    "not-a-tar": (b"this is no tar" * 1000, "archive"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_no_layer_may_hold_is_refused_and_leaves_nothing(images, fake, what):
    layer, text = REFUSED[what]
    name = fake.add(Image([base(), layer]))
    result = pull(images, name)
    if text is None:
        pulled(result)
        return
    assert text in error_of(result)
    assert images.api("GET", f"/images/{name}/json").status == 404


def test_nothing_lands_beside_a_layer(images, fake, tmp_path):
    """Links of every kind on the way, to a directory of the host: entries below them stay inside, or are refused."""
    host = tmp_path / "host"
    host.mkdir()
    (host / "victim").write_text("mine")
    before = listing(str(tmp_path))
    up = "../" * 40 + str(host)[1:]
    for i, target in enumerate((str(host), up, "/proc/self/root" + str(host), "/proc/1/root" + str(host))):
        for j, layer in enumerate(([entry("way", SYM, linkname=target), f("way/evil", b"x"), entry("way/.wh.victim"), f("way/victim", b"x")],
                                   [entry("way", SYM, linkname=target), entry("way/.wh..wh..opq")],
                                   [entry("way", SYM, linkname=os.path.dirname(target)), entry("way/host", DIR, mode=0o777, uid=5)],
                                   [entry("way", SYM, linkname=target), entry("h", LINK, linkname="way/victim")])):
            pull(images, fake.add(Image([layer]), f"app{i}{j}"))
            # and where the link is a layer below
            pull(images, fake.add(Image([layer[:1], layer[1:]]), f"two{i}{j}"))
    assert listing(str(tmp_path)) == before


def test_bombs(images, fake):
    """A blob that grows a thousandfold is counted by what comes out of it; one that goes on after its end is no tar."""
    big = tar_of([f("t/zeros", b"\0" * (200 << 20))])
    name = fake.add(Image([base(), big]))
    assert len(fake.blobs[fake_layer(fake, name)]) < 1 << 20
    pulled(pull(images, name))
    assert images.json("GET", f"/images/{name}/json")["Size"] >= 200 << 20
    for number, (tail, text) in enumerate(((b"\0" * 5000, None), (b"garbage", "other data after its end"), (gzip.compress(b"\0" * 512), None))):
        def pack(data, tail=tail):
            return gzip.compress(data) + tail
        image = Image([[f("t/x", b"%d" % number)]], pack=pack)
        if tail.startswith(b"\x1f\x8b"):         # a second member belongs to the layer's bytes
            data = tar_of([f("t/x", b"%d" % number)])
            image = Image([data + b"\0" * 512], pack=lambda _, data=data: pack(data))
        result = pull(images, fake.add(image, f"tail{number}"))
        if text:
            assert text in error_of(result)
        else:
            pulled(result)


def fake_layer(fake, name):
    repository, _, tag = name.partition("/")[2].rpartition(":")
    return json.loads(fake.manifests[repository, tag][1])["layers"][1]["digest"]
