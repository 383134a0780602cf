"""States at an address: what is put there comes back, by whatever kind of storage."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from gossamer.core.errors import InputError, StoreError
from gossamer.records.object_store import ObjectStore, checked_address
from gossamer.records.store import Store
from s3_server import s3_bucket

pytest.importorskip("fsspec", reason="the extra `cluster` is not installed")


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A bucket of a server here that speaks as S3 does."""
    with s3_bucket() as url:
        yield url


@pytest.fixture(params=["file", "memory", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        found: str = request.getfixturevalue("s3")
        return found
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}"
    return (tmp_path / "there").as_uri()


def test_what_is_put_comes_back(url: str, tmp_path: Path) -> None:
    store = ObjectStore(url)
    assert store.keys("states") == set()
    first, second = tmp_path / "one", tmp_path / "two" / "back"
    for content in (b"a" * 10_000, b"b"):  # the second time it takes the place of the first
        first.write_bytes(content)
        store.put("states/key.safetensors", first)
        assert store.fetch("states/key.safetensors", second)
        assert second.read_bytes() == content
    store.put("states/key.checkpoint", first)
    assert store.keys("states") == {"key"}
    assert store.keys("statistics") == set()
    store.remove("states/key.safetensors")
    store.remove("states/key.safetensors")
    assert store.keys("states") == set()
    assert not store.fetch("states/key.safetensors", second)
    assert second.read_bytes() == b"b"


def test_a_bucket_that_is_not_there_is_a_sentence(s3: str, tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"a")
    with pytest.raises(StoreError, match="--states s3://nowhere/x cannot be written"):
        ObjectStore("s3://nowhere/x").put("states/key.safetensors", tmp_path / "one")


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("/plain/folder", "expected an address such as"),
        ("s3://who:secret@bucket/x", "leave names, passwords and parameters out"),
        ("https://host/x?token=secret", "leave names, passwords and parameters out"),
        ("nosuchkind://x", "cannot be reached"),
    ],
)
def test_addresses_that_cannot_be_used_are_refused(url: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as refusal:
        ObjectStore(url)
    assert "secret" not in str(refusal.value)


def test_an_address_is_one_for_all_runs_in_a_folder(tmp_path: Path) -> None:
    there = (tmp_path / "there").as_uri()
    with Store.create(tmp_path / "out") as store:
        store.keep_states_at(there)
        (tmp_path / "there/states/key.safetensors").write_bytes(b"whole")
    with Store.create(tmp_path / "out") as store:
        assert store.states_at == checked_address(there)
        store.keep_states_at(None)
        store.keep_states_at(there + "/")
        store.fetch("states", {"key", "other"})
        assert store.state_path("key").read_bytes() == b"whole"
        with pytest.raises(InputError, match=r"the states of .* are at file://"):
            store.keep_states_at("memory://elsewhere")
