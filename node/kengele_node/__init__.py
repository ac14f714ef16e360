"""What runs where people and their keys are: monitor node, office desk, coordinator's tools."""
