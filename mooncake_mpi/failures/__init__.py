"""Living on after a process has failed: what is known of failures, agreements, and shrinking."""
