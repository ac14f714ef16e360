"""The office's desk: what the feed brings is checked, opened and kept, exactly once."""
