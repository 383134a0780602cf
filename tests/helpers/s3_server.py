"""A server on this machine that speaks as S3 does."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

SECRETS = {"AWS_ACCESS_KEY_ID": "WHO-WRITES-HERE", "AWS_SECRET_ACCESS_KEY": "what-nobody-knows"}


@contextmanager
def s3_bucket() -> Iterator[str]:
    """Have a bucket to which the environment gives access; yields an address in it."""
    moto = pytest.importorskip("moto.server", reason="moto's server is not installed")
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    before = dict(os.environ)
    os.environ.update(SECRETS)
    os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{port}"
    os.environ["AWS_DEFAULT_REGION"] = "us-east-1"
    import s3fs

    s3fs.S3FileSystem(use_listings_cache=False).mkdir("bucket")
    try:
        yield "s3://bucket/study"
    finally:
        os.environ.clear()
        os.environ.update(before)
        server.stop()
