"""What runs in the middle: NATS, intake, routing, delivery, audit log. Holds no member's key."""
