"""The auditor's tools: the hub's log exported, verified from its first entry on, and searched."""
