"""A build of seven steps with a context of 70 MB: with nothing in the cache, and with all."""

import os
import tempfile

DOCKERFILE = """FROM {image}
ENV A=1
RUN echo one > /one
COPY . /app
WORKDIR /app
RUN echo two > /two
CMD ["true"]
"""


def context(work, image, directories=20, files=50, size=70000):
    path = tempfile.mkdtemp(prefix="context-", dir=work)
    for directory in range(directories):
        os.mkdir(f"{path}/{directory}")
        for name in range(files):
            with open(f"{path}/{directory}/{name}", "wb") as f:
                f.write(os.urandom(size))
    with open(path + "/Dockerfile", "w") as f:
        f.write(DOCKERFILE.format(image=image))
    return path
