"""Coordinators: who is in the network, and who may read what."""
