"""Sharing: an earlier report for an office that the rules have come to give it, by its author or by the custodian."""
