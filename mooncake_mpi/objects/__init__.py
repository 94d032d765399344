"""Python objects as messages, and messages that a matched probe took."""
