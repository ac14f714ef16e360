"""Fuzzing: what comes from outside, bent at random, neither breaks a reader nor passes it."""
