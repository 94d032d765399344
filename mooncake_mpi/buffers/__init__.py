"""What a program's buffer is: its memory, its datatype, and the bytes that a message has of it."""
