"""Memory made for messages: every process of the node can map it."""
