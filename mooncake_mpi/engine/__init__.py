"""The engine of this process: how it starts and ends, and how communicators become known to it."""
