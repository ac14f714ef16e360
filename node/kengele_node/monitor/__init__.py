"""The monitor's node: a report is composed, waits in the outbox, and is sent until the hub's receipt is there."""
