"""Feeds: one consumer each, and gone when they are removed."""

from __future__ import annotations

from pathlib import Path

import pytest
from nats.aio.client import Client

from kengele_hub import feeds
from kengele_hub.jetstream import ONCE, publish_batch
from kengele_schemas import subjects
from kengele_schemas.nkeys import KeyPair
from kengele_testing.streams import count, info, run

pytestmark = pytest.mark.full


def test_a_feed_has_one_durable_consumer_and_can_be_removed(tmp_path: Path) -> None:
    async def claim(nc: Client) -> None:
        nkey = KeyPair.generate("user").public
        for _ in range(2):
            await feeds.ensure_feed(nc, nkey)
        name = subjects.feed_stream(nkey)
        await publish_batch(
            nc, [(subjects.feed_subject(nkey), b"", {}), (subjects.feed_subject(nkey, "id"), b"", ONCE)]
        )
        config = (await info(nc, f"CONSUMER.INFO.{name}.{subjects.feed_consumer(nkey)}"))["config"]
        assert config["ack_policy"] == "explicit"
        assert config["max_ack_pending"] >= 1000
        assert (await info(nc, f"STREAM.INFO.{name}"))["config"]["duplicate_window"] == 3600 * 10**9
        assert await count(nc, name) == 2
        for _ in range(2):
            await feeds.remove_feed(nc, nkey)
        assert "error" in await info(nc, f"STREAM.INFO.{name}")

    run(tmp_path, claim)
