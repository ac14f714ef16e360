"""Torture: a whole network under random faults, and a judge who compares what was submitted with the desks."""
