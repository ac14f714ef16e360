"""What several tests share: a real broker, members that connect to it."""
