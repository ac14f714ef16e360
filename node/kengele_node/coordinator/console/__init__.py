"""The coordinators' console: pages on the coordinator's own machine; her key is in its process, never in a page."""
