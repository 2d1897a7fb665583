"""HTTP by hand, byte for byte: what a client library would hide."""

import os
import socket
import struct

from harness import SLOW


class Wire:
    """One connection. Reads are buffered here, so that bytes behind the head of an answer are seen as the stream they begin."""

    def __init__(self, daemon, timeout=15):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(timeout * SLOW)
        self.sock.connect(daemon.socket)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def request(self, method, path, body=None, headers=()):
        lines = [f"{method} {path} HTTP/1.1", "Host: docker", *headers]
        if body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b""))
        return self

    def more(self):
        data = self.sock.recv(65536)
        self.buffer += data
        return len(data) > 0

    def until(self, mark):
        """What comes up to and with mark."""
        while mark not in self.buffer:
            assert self.more(), f"the connection ended before {mark!r}: {self.buffer!r}"
        at = self.buffer.index(mark) + len(mark)
        taken, self.buffer = self.buffer[:at], self.buffer[at:]
        return taken

    def exactly(self, count):
        while len(self.buffer) < count:
            assert self.more(), f"the connection ended before {count} bytes: {self.buffer!r}"
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def rest(self):
        """What comes up to the end of the connection."""
        while self.more():
            pass
        taken, self.buffer = self.buffer, b""
        return taken

    def head(self):
        """(status, {name in lower case: value})"""
        lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        headers = {}
        for line in lines[1:-2]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return int(lines[0].split()[1]), headers

    def chunk(self):
        """One piece of a chunked body; b"" is its end."""
        size = int(self.until(b"\r\n"), 16)
        data = self.exactly(size)
        assert self.exactly(2) == b"\r\n"
        return data

    def body(self, headers):
        if headers.get("transfer-encoding") == "chunked":
            out = b""
            while piece := self.chunk():
                out += piece
            return out
        return self.exactly(int(headers.get("content-length", 0)))

    def frame(self):
        """(stream, bytes): one piece of a multiplexed stream."""
        stream, size = struct.unpack(">BxxxI", self.exactly(8))
        return stream, self.exactly(size)

    def frames(self):
        """{stream: bytes} up to the end of the connection."""
        out = {1: b"", 2: b""}
        while self.buffer or self.more():
            stream, data = self.frame()
            out[stream] += data
        return out


UPGRADE = ("Upgrade: tcp", "Connection: Upgrade")


class WebSocket(Wire):
    """RFC 6455 from the client's side."""

    KEY = "dGhlIHNhbXBsZSBub25jZQ=="        # of RFC 6455, section 1.3

    def open(self, path):
        self.request("GET", path, headers=("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
                                           "Sec-WebSocket-Key: " + self.KEY, "Origin: http://localhost"))
        return self.head()

    def put(self, data, opcode=2, fin=True):
        mask = os.urandom(4)
        size = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + struct.pack(">H", len(data)) if len(data) < 65536 else \
            b"\xff" + struct.pack(">Q", len(data))
        self.send(bytes([(0x80 if fin else 0) | opcode]) + size + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data)))

    def get(self):
        """(opcode, bytes) of one frame."""
        first, size = self.exactly(2)
        assert not size & 0x80, "a server does not mask"
        if size == 126:
            size, = struct.unpack(">H", self.exactly(2))
        elif size == 127:
            size, = struct.unpack(">Q", self.exactly(8))
        return first & 0x0f, self.exactly(size)

    def text(self, mark):
        """What comes in data frames up to mark."""
        out = b""
        while mark not in out:
            opcode, data = self.get()
            assert opcode in (0, 1, 2), f"frame {opcode} {data!r} after {out!r}"
            out += data
        return out
