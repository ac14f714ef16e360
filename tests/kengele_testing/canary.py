"""A word that no other text has, in every field of a report that takes one; and how to find it again."""

from __future__ import annotations

import base64
from typing import Any

from kengele_testing.network import draft

CANARY = "Zq7CANARYx9Kw3"


def canary(**changes: object) -> Any:
    """A report with the canary in every field that takes a text."""
    text = {"text": f"{CANARY} happened", "lang": "en"}
    return draft(
        **{
            "categories": ["attack-on-civilians"],
            "severity": 4,
            "summary": text,
            "account": {**text, "local_terms": [{"code": "threat", "text": CANARY, "lang": "ky"}]},
            "place": {"name": f"{CANARY} bridge", "lat": 40.5, "lon": 72.8, "precision": 1},
            "people": {"actors": [{"name": f"{CANARY} men", "role": "initiator", "group": CANARY}]},
            "source": {"basis": "witness", "description": f"{CANARY} neighbour"},
            "media": {
                "items": [{"digest": "A" * 43, "key": "A" * 43, "type": "image/jpeg", "size": 9, "caption": CANARY}]
            },
            "handling": {"wishes": text},
            **changes,
        }
    )


def spellings(word: str) -> dict[str, bytes]:
    """How ``word`` could stand in a memory or a file; of base64 the part that does not depend on what is around it."""
    data = word.encode()
    found = {"plain": data, "wide": word.encode("utf-16-le"), "hex": data.hex().encode(), "reversed": data[::-1]}
    for shift in range(3):
        text = base64.urlsafe_b64encode(bytes(shift) + data + bytes(3)).decode()
        found[f"base64, {shift} behind"] = text[(4 if shift else 0) : -8].encode()
    return found
