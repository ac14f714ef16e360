"""The hub's secrets on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from kengele_hub.home import HubKeys
from kengele_schemas import disk
from kengele_schemas.disk import write
from kengele_schemas.errors import Damaged, Refused
from kengele_testing.seeds import seeds


def test_keys_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    keys = HubKeys.create(tmp_path / "hub")

    assert HubKeys.load(tmp_path / "hub") == keys
    assert len({bytes(key) for key in (keys.hub_key, keys.snapshot_key, keys.timestamp_key)}) == 3


def test_keys_are_for_this_users_eyes_only(tmp_path: Path) -> None:
    HubKeys.create(tmp_path / "hub")

    assert (tmp_path / "hub").stat().st_mode & 0o777 == 0o700
    assert [path.name for path in (tmp_path / "hub").iterdir()] == ["keys.json"]
    assert (tmp_path / "hub" / "keys.json").stat().st_mode & 0o777 == 0o600


def test_keys_that_others_can_read_are_not_used(tmp_path: Path) -> None:
    HubKeys.create(tmp_path)
    (tmp_path / "keys.json").chmod(0o640)

    with pytest.raises(Refused) as caught:
        HubKeys.load(tmp_path)
    assert caught.value.code == "keys-exposed"


def test_who_may_not_read_the_keys_is_not_told_to_make_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    HubKeys.create(tmp_path)

    def denied(*_: object) -> bytes:
        raise PermissionError

    monkeypatch.setattr(disk, "read_secret", denied)
    with pytest.raises(Refused) as caught:
        HubKeys.load(tmp_path)
    assert caught.value.code == "not-yours"
    assert "init" not in caught.value.mend


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    keys = HubKeys.create(tmp_path)

    with pytest.raises(Refused) as caught:
        HubKeys.create(tmp_path)
    assert caught.value.code == "exists"
    assert HubKeys.load(tmp_path) == keys


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"v":"2"}', '{"v":1}', '{"v":1,"operator":3}', "{"])
def test_a_damaged_file_is_told_apart_from_none(tmp_path: Path, text: str) -> None:
    with pytest.raises(Damaged) as caught:
        HubKeys.load(tmp_path)
    assert caught.value.code == "no-keys"

    write(tmp_path / "keys.json", text.encode())
    with pytest.raises(Damaged) as caught:
        HubKeys.load(tmp_path)
    assert caught.value.code == "damaged"


def test_no_seed_shows_in_the_representation(tmp_path: Path) -> None:
    keys = HubKeys.create(tmp_path)

    assert len(seeds(tmp_path)) >= 13
    assert [seed for seed in seeds(tmp_path) if seed in repr(keys)] == []


def test_a_private_file_replaces_the_old_one_wholly(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write(path, b"a longer first version")
    path.chmod(0o644)
    write(path, b"second")

    assert path.read_bytes() == b"second"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
