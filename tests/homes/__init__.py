"""Homes as each version of Kengele wrote them, and what makes them."""
