"""The demonstration: a whole network on one machine, with real events and the project's own example reports."""
