"""Judges of another make: what Kengele decides is put to them as well, and the answers must agree."""
