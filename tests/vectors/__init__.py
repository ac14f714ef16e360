"""Test vectors: what an implementation in another language is held against. See README.md."""
